"""Several models, or settings of one, trained for the same time on the same images: one table, grids side by side.

    python benchmarks/compare.py --shards SHARDS --out FOLDER --seconds 240 --config configs/demo.yaml \\
        --variant emixer --variant cogan:configs/baselines/cogan.yaml --variant "augmented:loss.augment=[translation]"

A variant is NAME[:PART,...]; a part is a YAML file laid over --config, or a setting KEY=VALUE (commas inside brackets
belong to the value). Needs no Ray: one process, one device. `--resume` goes on from what FOLDER holds, so that a budget
can be spent in several sittings. Phases of a run (SM-GAN) are shares of the time: with more of it, SM-GAN goes back to
its first. `--images` instead of `--seconds` compares at an equal number of images.
"""

import argparse
import json
import re
import time
from pathlib import Path

import torch

from emixer import checkpoint
from emixer.config import Config, load_config
from emixer.data.loader import BatchStream, WindowReader, open_windows
from emixer.data.order import Position
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import Vocabulary
from emixer.gallery.sample_grid import draw_pairs
from emixer.model_kinds import build_model, build_phases
from emixer.models.noise import RowNoise
from emixer.models.paired_model import GeneratedPairs, PairedModel
from emixer.stages.model_spec import model_spec
from emixer.stages.validation_pass import prepare_validator, validated
from emixer.training.kernels import use_fast_kernels
from emixer.training.reporter import SAMPLE_STEP, averaged
from emixer.training.state import TrainState
from emixer.training.step import train_iteration

COLUMNS = {
    "images": "images", "images/s": "images_per_s", "FID": "fid_", "word CE": "word_cross_entropy",
    "label AUC": "label_auc_generated", "(real)": "label_auc_real", "report F1": "report_f1_generated",
    "(real) ": "report_f1_real", "agreement": "pair_agreement_generated", "(real)  ": "pair_agreement_real",
    "parameters": "parameters",
}  # fmt: skip
_IMAGES_SHOWN = 24


def main() -> None:
    """Trains each variant and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--images", type=int, help="of each variant, instead of --seconds")
    parser.add_argument("--variant", action="append", required=True)
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="a setting of all variants")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    use_fast_kernels()
    rows = {}
    for variant in args.variant:
        name, _, parts = variant.partition(":")
        config = _config(args.config, parts, args.shards, args.overrides)
        rows[name] = trained(name, config, args.out, args.seconds, args.images, args.resume)
        print(_table(rows), flush=True)
        (args.out / "table.json").write_text(json.dumps(rows, indent=1))


def trained(name: str, config: Config, out: Path, seconds: float, images: int | None, resume: bool) -> dict[str, float]:
    """Trains for `seconds`, or on `images`, keeps the state, draws grids. Returns its metrics."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert config.data.shards is not None
    shards = ShardSet.open(config.data.shards)
    model = config.model
    reader = open_windows(shards, "train", config.data, config.seed, model.max_sentences, model.max_words)
    state = _state(config, shards, reader, device)
    folder = out / name
    found = checkpoint.find_checkpoint(folder / "checkpoints", "last") if resume else None
    spent = 0.0
    if found is not None:
        state.restore(found)
        spent = json.loads((folder / "spent.json").read_text())
    stream = BatchStream(reader, config.train.batch_size, state.position, 0, lambda windows: map(reader.read, windows))
    start = time.perf_counter()
    while (now := spent + time.perf_counter() - start) < seconds if images is None else state.images < images:
        if images is None:
            expected = state.images * seconds / now if state.images and now else 1e12
        state.config = _with_end(config, images or expected)
        train_iteration(state, stream)
        if device.type == "cuda" and state.iteration % 20 == 0:
            torch.cuda.synchronize()  # else the host runs ahead of the clock
    elapsed = spent + time.perf_counter() - start
    state.position = stream.position
    checkpoint.save_checkpoint(folder / "checkpoints", state.images, state.parts(), state.describe())
    checkpoint.prune(folder / "checkpoints")
    (folder / "spent.json").write_text(json.dumps(elapsed))
    validator = prepare_validator(config, state.spec, reader, device)
    with averaged(state) as sampling:
        metrics = validated(validator, sampling, config)
        _draw(name, sampling, state, out)
    return {
        "images": state.images,
        "images_per_s": state.images / elapsed,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        **{key: value for key, value in metrics.items() if "/" not in key},
    }


def _state(config: Config, shards: ShardSet, reader: WindowReader, device: torch.device) -> TrainState:
    torch.manual_seed(config.seed)
    spec = model_spec(shards, reader)
    model, phases = build_model(config.model, spec), build_phases(config.model, config.loss)
    return TrainState.create(config, spec, model, phases, device, Position(1))


def _with_end(config: Config, images: float) -> Config:
    """The config with the end of the run where the present rate would bring it: progress is a share of the time."""
    return config.model_copy(update={"train": config.train.model_copy(update={"images": max(int(images), 1)})})


def _draw(name: str, model: PairedModel, state: TrainState, out: Path) -> None:
    noise = RowNoise(state.config.seed, SAMPLE_STEP, 0, _IMAGES_SHOWN, state.device)
    labels_BY = state.prior.draw(noise.uniform("labels"))
    pairs: GeneratedPairs = model.sample(labels_BY, noise, state.config.generate.temperature)
    images = pairs.image_BCHW.mean(dim=1).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    names = [[n for n, y in zip(state.spec.label_names, row, strict=True) if y] for row in labels_BY.tolist()]
    reports = Vocabulary(state.spec.tokens).decode(pairs.words_BSW.cpu().numpy())
    title = f"{name}, {state.images:,} images"
    draw_pairs(images, names, reports, out / f"{name}.png", title)
    repeats = sum(bool(re.search(r"\b(\w+) \1\b", report)) for report in reports)
    print(f"{name}: {repeats} of {len(reports)} reports repeat a word")


def _config(base: Path, parts: str, shards: Path, overrides: list[str]) -> Config:
    split = re.split(r",(?![^\[{]*[\]}])", parts) if parts else []
    files = [Path(part) for part in split if "=" not in part]
    settings = [part for part in split if "=" in part]
    return load_config([base, *files], [*overrides, *settings], {"data.shards": shards})


def _table(rows: dict[str, dict[str, float]]) -> str:
    lines = ["| | " + " | ".join(name.strip() for name in COLUMNS) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, row in rows.items():
        cells = [
            next((value for key, value in row.items() if key.startswith(wanted)), None) for wanted in COLUMNS.values()
        ]
        lines.append(f"| {name} | " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 20 else f"{value:.3f}"


if __name__ == "__main__":
    main()
