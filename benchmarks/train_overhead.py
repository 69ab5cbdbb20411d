"""Step time inside Ray Train against the same step in a bare loop.

    python benchmarks/train_overhead.py [--config configs/demo.yaml] [--iterations 60] [--rounds 2]

Both train the same model on the same procedural images with the same number of threads, on this machine, in turn.
`bare` holds its images in memory and runs `train_iteration` alone; `ray` is `emixer train`'s own path: Ray Data reads
the shards, a Ray Train worker steps, logs and measures its rate. The medians are over log intervals, without the first.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from loader import write_images

from emixer.config import Config, load_config
from emixer.data.loader import BatchStream, HostBatch, open_windows
from emixer.data.order import Position
from emixer.data.shards import ShardSet
from emixer.model_kinds import build_model, build_phases
from emixer.ray_session import connect
from emixer.run_folder import RunFolder
from emixer.stages.model_spec import model_spec
from emixer.stages.train.plan import draw_samples
from emixer.training.game import GamePlan, game_plan
from emixer.training.reporter import RunReporter
from emixer.training.state import TrainState
from emixer.training.step import train_iteration
from emixer.training.workers import run_workers

LOG_ITERATIONS = 5


def main() -> None:
    """Times both, in turn, and prints the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = load_config(args.config)
        shards = write_images(Path(folder) / "shards", 4096, base.model.side_px)
        config = _schedule(args.config, shards.folder, args.iterations, base)
        bare: list[float] = []
        with_ray: list[float] = []
        for index in range(args.rounds):
            bare += bare_loop(config, shards, args.iterations)
            with_ray += ray_train(config, shards, Path(folder) / f"run{index}")
    first, second = statistics.median(bare), statistics.median(with_ray)
    print(f"\n{args.config}, batch {config.train.batch_size}, {config.train.cpus_per_worker} thread(s)")
    print(f"  bare loop  {first * 1000:8.1f} ms an iteration")
    print(f"  Ray Train  {second * 1000:8.1f} ms an iteration   ratio {second / first:.3f}")


def bare_loop(config: Config, shards: ShardSet, iterations: int) -> list[float]:
    """Seconds an iteration, by interval."""
    torch.set_num_threads(config.train.cpus_per_worker)
    reader = open_windows(shards, "train", config.data, 0, config.model.max_sentences, config.model.max_words)
    spec = model_spec(shards, reader)
    torch.manual_seed(0)
    model, phases = build_model(config.model, spec), build_phases(config.model, config.loss)
    state = TrainState.create(config, spec, model, phases, torch.device("cpu"), Position(1))
    window: HostBatch = reader.read(0)
    stream = BatchStream(reader, config.train.batch_size, Position(1), 0, lambda windows: (window for _ in windows))
    times = []
    for _ in range(iterations // LOG_ITERATIONS):
        start = time.perf_counter()
        for _ in range(LOG_ITERATIONS):
            train_iteration(state, stream)
        times.append((time.perf_counter() - start) / LOG_ITERATIONS)
    return times[1:]


def ray_train(config: Config, shards: ShardSet, run: Path) -> list[float]:
    """Seconds an iteration, by log line of a real run."""
    folder = RunFolder.create_or_resume(run, "train", config)
    reader = open_windows(shards, "train", config.data, 0, config.model.max_sentences, config.model.max_words)
    plan = game_plan(config, model_spec(shards, reader), reader, run, partial(_log_only, run))
    with connect(config.ray):
        run_workers(plan)
    images = config.optim.discriminator_steps * config.train.batch_size
    return [images / line["images_per_s"] for line in folder.metrics() if "images_per_s" in line][1:]


def _log_only(run: Path, plan: GamePlan, state: TrainState) -> RunReporter:
    return RunReporter(RunFolder(run), state, plan.reader.order, draw_samples, lambda _: {})


def _schedule(file: Path, shards: Path, iterations: int, base: Config) -> Config:
    images = base.optim.discriminator_steps * base.train.batch_size
    never = {f"train.{name}_every_images": 10**9 for name in ("sample", "validate", "save")}
    settings = {"data.shards": shards, "train.images": iterations * images}
    settings |= {"train.log_every_images": LOG_ITERATIONS * images}
    return load_config(file, extra=settings | never)


if __name__ == "__main__":
    main()
