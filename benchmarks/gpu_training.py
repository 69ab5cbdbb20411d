"""Trains on ordinary shards for so many seconds in one process, without Ray, and leaves a run that can be carried away.

    python benchmarks/gpu_training.py --shards FOLDER --run FOLDER --seconds 300 --out FOLDER
        [--config configs/indiana.yaml] [--images N] [--set KEY=VALUE ...] [--device cuda]

The loop is that of `emixer train`, and so is the run folder: the same command, or `emixer train` with the run's own
config.yaml, goes on from its last checkpoint. Writes to --out:

training.json         validation figures over time
grid.png              pairs at the end
pieces/               the run and its last checkpoint in pieces of at most 16 MB: scripts/checkpoint_pieces.py

--images is how long the whole run is, which decides when its phases begin; without it, what fits into the seconds at
the speed of some iterations that are tried first. A run that goes on keeps its own.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from emixer.config import Config, load_config, with_overrides
from emixer.data.loader import BatchStream, HostBatch, WindowReader
from emixer.data.shards import ShardSet
from emixer.files import write_bytes, write_json
from emixer.run_folder import RunFolder
from emixer.stages import train
from emixer.stages.train.plan import make_plan, make_reporter
from emixer.training.game import GamePlan
from emixer.training.plan import train_from_last
from emixer.training.reporter import RunReporter
from emixer.training.state import TrainState

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY / "scripts"))
from checkpoint_pieces import split  # noqa: E402 - a script beside this folder

_WARM_UP = 3
_AHEAD = 4
"""Iterations that are queued on a GPU before it is waited for: waiting after each would make it look slower."""
_TRIED_SHARE = 0.03
"""Of the seconds, to find the speed."""
_TRAINING_SHARE = 0.8
"""Of the seconds; the rest is for validation, samples and checkpoints."""
_FIGURES = ("fid", "word_cross_entropy", "report_f1", "pair_agreement", "label_auc")


def main() -> None:
    """Trains, then writes what is to be carried away."""
    args = parser().parse_args()
    began = time.monotonic()
    device = torch.device(args.device)
    goes_on = (args.run / "run.json").exists()
    config = configured(args)
    shards, reader = train.checked(config)
    if not goes_on and args.images is None:
        speed = speed_of(config, shards, reader, device, _TRIED_SHARE * args.seconds)
        images = int(speed * _TRAINING_SHARE * (args.seconds - (time.monotonic() - began)))
        config = with_overrides(config, schedule(max(images, config.train.batch_size * 8)))
        print(f"{speed:,.0f} images/s in the whole game: a run of {config.train.images:,} images", flush=True)
    with RunFolder(args.run).alone("train"):
        folder = RunFolder.create_or_resume(args.run, "train", config)
        go_on(config, shards, reader, device, args.seconds - (time.monotonic() - began))
    lines = folder.metrics()
    facts = {
        "images": config.train.images,
        "trained_on": lines[-1]["images"],
        "config": "of the run" if goes_on else str(args.config),
    }
    facts["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    write_json(args.out / "training.json", {"facts": facts, "rows": figures(lines)})
    if grids := sorted(folder.samples.glob("*.png")):
        write_bytes(args.out / "grid.png", grids[-1].read_bytes())
    split(args.run, args.out / "pieces")


def parser() -> argparse.ArgumentParser:
    """The words on the command line."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--shards", type=Path, required=True, help="written by `emixer ingest`")
    words.add_argument("--run", type=Path, required=True, help="the run folder; one that is there goes on")
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--seconds", type=float, required=True)
    words.add_argument("--images", type=int)
    words.add_argument("--config", type=Path, default=Path("configs/indiana.yaml"), help="relative to the repository")
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return words


def configured(args: argparse.Namespace) -> Config:
    """The config for the side of the shards; that of the run, where there is one already."""
    if (args.run / "run.json").exists():
        return with_overrides(
            RunFolder.open(args.run, "train").config, {"data.shards": args.shards, "train.run": args.run}
        )
    given = {
        "data.shards": args.shards,
        "train.run": args.run,
        "model.side_px": ShardSet.open(args.shards).info.side_px,
    }
    config = load_config(REPOSITORY / args.config, args.set, given)
    return with_overrides(config, schedule(args.images)) if args.images else config


def schedule(images: int) -> dict[str, Any]:
    """Ten validations and grids, twenty checkpoints and two hundred log lines over the run."""
    every = {"validate": 10, "sample": 10, "save": 20, "log": 200}
    return {"train.images": images} | {f"train.{name}_every_images": max(1, images // n) for name, n in every.items()}


def speed_of(config: Config, shards: ShardSet, reader: WindowReader, device: torch.device, seconds: float) -> float:
    """Images a second in the last phase, which costs most; takes so many seconds and some iterations more."""
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(config, shards, reader, Path(folder))
        state = plan.make_state(plan, device)
        state.phases = type(state.phases).single(state.phases.objectives[-1])
        stream = BatchStream(reader, config.train.batch_size, state.position, 0, windows_of(reader))
        for _ in range(_WARM_UP):
            plan.advance(state, stream)
        wait(device)
        start, num = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            for _ in range(_AHEAD):
                plan.advance(state, stream)
            wait(device)
            num += _AHEAD
        return num * state.images_per_iteration / (time.perf_counter() - start)


def go_on(config: Config, shards: ShardSet, reader: WindowReader, device: torch.device, seconds: float) -> None:
    """Trains until the run is through, or saves when the seconds are over; measures and draws at its end."""
    assert config.train.run is not None
    folder, reporters = RunFolder(config.train.run), []
    folder.answer_stop_request()  # of a former call

    def remembered(plan: GamePlan, state: TrainState) -> RunReporter:
        reporters.append(make_reporter(plan, state))
        return reporters[-1]

    plan = replace(make_plan(config, shards, reader, folder.path), make_reporter=remembered)
    bell = threading.Timer(max(0.0, seconds), folder.request_stop)
    bell.start()
    try:
        train_from_last(plan, device, windows_of(reader))
    finally:
        bell.cancel()
    if not any("validation/" in key for key in folder.metrics()[-1]):  # stopped between two validations
        reporters[-1].sample()
        reporters[-1].validate()


def windows_of(reader: WindowReader) -> Any:
    """Reads windows in this process, when they are needed."""

    def windows(numbers: Iterable[int]) -> Iterator[HostBatch]:
        return map(reader.read, numbers)

    return windows


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def figures(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each validation: images seen, images a second before it, and what it measured."""
    rows, speed = [], None
    for line in lines:
        speed = line.get("images_per_s", speed)
        measured = {k.removeprefix("validation/"): v for k, v in line.items() if k.startswith("validation/")}
        shown = {k: float(f"{v:.4g}") for k, v in measured.items() if k.startswith(_FIGURES) and "/" not in k}
        if shown:
            rows.append({"images": line["images"], "images_per_s": round(speed or 0.0, 1)} | shown)
    return rows


if __name__ == "__main__":
    main()
