"""Generation: the whole pipeline against the bare forward pass, and memory against the number of rows.

    python benchmarks/generation.py [--config configs/demo.yaml | --run RUN] [--rows 6144] [--device cpu] [--rounds 3]

bare       one process calls the model's `sample` on the same batches, with a thread for each core of this machine, and
           throws the result away.
pipeline   `emixer generate`'s own path: Ray Data samplers, PNG, text, Parquet on disk. Its clock runs from the first
           call of the first sampler to the last file closed: filling and draining the pipeline count, the start of
           processes, which a long run does not feel, does not. `with start` counts that too.
CPU time   of a pair: bare, and of all processes of the pipeline together between a quarter and three quarters of the
           rows. On a machine that others use too this is the ratio to look at; on CPUs alone it bounds the other.
memory     proportional set size of this and all Ray processes together, at the peak, for --rows / 10 and --rows.

Without `--run` weights are random. Their reports are nearly as long as reports may be, four times as long as those of a
trained model of the demo, so that the model takes a larger part of the time than it does in use. Images of random
weights are smooth, so they compress better than real ones; `--noise` adds noise to the pixels before they are encoded,
which makes PNG do its worst.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_model import random_model
from worker_memory import descendants

from emixer.config import RayConfig, load_config
from emixer.generation.dataset import SamplerActor, choose_samplers, write_dataset
from emixer.generation.dataset_files import DATA_FOLDER, Layout, RowFormat
from emixer.generation.dataset_folder import DatasetFolder
from emixer.generation.generation_plan import Device, GenerationPlan
from emixer.generation.plan import make_plan
from emixer.generation.sampler import Sampler
from emixer.generation.trained_model import TrainedModel, read_trained_model
from emixer.models.noise import RowNoise
from emixer.ray_session import connect

TEMPERATURE = 0.7
_CLOCK = "EMIXER_BENCHMARK_CLOCK"
_NOISE = "EMIXER_BENCHMARK_NOISE"
_MEMORY_EVERY_S = 5.0  # a look takes CPU time, which counts as the pipeline's


class TimedSampler(SamplerActor):
    """Notes when the first draw began; optionally makes images that do not compress."""

    def draw(self, task: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        clock = Path(os.environ[_CLOCK])
        if not clock.exists():
            clock.write_text(str(time.time()))
        drawn = super().draw(task)
        if _NOISE in os.environ:
            drawn["image"] = np.random.default_rng(0).integers(0, 256, drawn["image"].shape, dtype=np.uint8)
        return drawn


@dataclass
class PipelineRun:
    """What one run of the pipeline took."""

    rows_per_s: float
    rows_per_s_with_start: float
    cpu_s_per_row: float
    peak_memory_mb: float
    bytes_per_row: float


@dataclass
class BareRun:
    """What the model alone took."""

    rows_per_s: float
    cpu_s_per_row: float


@dataclass
class Memory:
    """Peak memory while it is watched [MB]."""

    peak_mb: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)


def main() -> None:
    """Times bare forward passes and the pipeline in turn, prints medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--run", type=Path, help="of `emixer train`; in place of random weights of --config")
    parser.add_argument("--rows", type=int, default=6144)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=1, help="of each sampler on CPUs (generate.cpus_per_sampler)")
    parser.add_argument("--bare-threads", type=int, default=cores, help="of the bare forward pass on CPUs")
    parser.add_argument("--noise", action="store_true")
    args = parser.parse_args()
    if args.noise:
        os.environ[_NOISE] = "1"

    if args.run is None:
        name, trained = args.config.stem, random_model(load_config(args.config))
    else:
        name, trained = str(args.run), read_trained_model(args.run, "best")
    plan = generation_plan(trained, args.rows, args.batch_size, args.device, args.threads)
    few_rows = replace(plan, layout=replace(plan.layout, num_rows=args.rows // 10))
    bare: list[BareRun] = []
    runs: list[PipelineRun] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ[_CLOCK] = str(Path(folder) / "clock")
        with connect(RayConfig(object_store_mb=500)):
            few = run_pipeline(few_rows, Path(folder))
            for _ in range(args.rounds):
                bare.append(run_bare(plan, args.bare_threads))
                runs.append(run_pipeline(plan, Path(folder)))
                print(
                    f"round: bare {bare[-1].rows_per_s:,.1f}, pipeline {runs[-1].rows_per_s:,.1f} pairs/s", flush=True
                )
    report(name, plan, bare, runs, few)


def report(name: str, plan: GenerationPlan, bare: list[BareRun], runs: list[PipelineRun], few: PipelineRun) -> None:
    """Prints the table."""
    side, rows = plan.trained.config.side_px, plan.layout.num_rows

    def median(values: Iterable[float]) -> float:
        return float(np.median(list(values)))

    ratio = median(run.rows_per_s / alone.rows_per_s for run, alone in zip(runs, bare, strict=True))
    cpu_ratio = median(alone.cpu_s_per_row / run.cpu_s_per_row for run, alone in zip(runs, bare, strict=True))
    on = "a GPU" if plan.device == "cuda" else f"{plan.cpus_per_sampler} thread(s) a sampler"
    print(f"\n{name}, {side} px, batch {plan.batch_size}, {on}, {rows:,} rows, median of {len(runs)} rounds")
    print(f"  bare forward            {median(run.rows_per_s for run in bare):10,.1f} pairs/s")
    print(f"  pipeline                {median(run.rows_per_s for run in runs):10,.1f} pairs/s   {ratio:.2f} of bare")
    print(f"  pipeline with start     {median(run.rows_per_s_with_start for run in runs):10,.1f} pairs/s")
    print(f"  CPU time, bare          {median(run.cpu_s_per_row for run in bare) * 1e3:10,.2f} ms a pair")
    cpu_s = median(run.cpu_s_per_row for run in runs)
    print(f"  CPU time, pipeline      {cpu_s * 1e3:10,.2f} ms a pair   {cpu_ratio:.2f}")
    print(f"  a row on disk           {runs[0].bytes_per_row:10,.0f} bytes (raw image {side * side:,})")
    print(f"  memory, {rows // 10:>9,} rows  {few.peak_memory_mb:10,.0f} MB at the peak")
    print(f"  memory, {rows:>9,} rows  {max(run.peak_memory_mb for run in runs):10,.0f} MB at the peak")


def run_bare(plan: GenerationPlan, threads: int) -> BareRun:
    """The model alone, on as many batches as a quarter of the rows."""
    if plan.device == "cpu":
        torch.set_num_threads(threads)
    sampler = Sampler(plan.trained, plan.device, plan.batch_size)
    labels = torch.from_numpy(plan.labels.labels(0, plan.batch_size)).to(sampler.device, torch.float32)
    blocks = max(4, plan.layout.num_rows // plan.batch_size // 4)

    def forward(block: int) -> None:
        noise = RowNoise(0, 0, block * plan.batch_size, plan.batch_size, sampler.device)
        with torch.inference_mode(), sampler._same_kernels():
            sampler._model.sample(labels, noise, TEMPERATURE)

    forward(0)
    _synchronize(plan.device)
    start, cpu_start = time.perf_counter(), time.process_time()
    for block in range(blocks):
        forward(block)
    _synchronize(plan.device)
    rows = blocks * plan.batch_size
    return BareRun(rows / (time.perf_counter() - start), (time.process_time() - cpu_start) / rows)


def run_pipeline(plan: GenerationPlan, folder: Path) -> PipelineRun:
    """Writes the dataset into a folder of its own."""
    clock = Path(os.environ[_CLOCK])
    clock.unlink(missing_ok=True)
    rows = plan.layout.num_rows
    marks: list[tuple[int, float]] = []  # rows written and CPU time so far, at a quarter and at three quarters
    written = 0

    def mark(num: int) -> None:
        nonlocal written
        written += num
        if len(marks) < 2 and written >= (0.25 + 0.5 * len(marks)) * rows:
            marks.append((written, sum(map(_cpu_s, [os.getpid(), *descendants(os.getpid())]))))

    with tempfile.TemporaryDirectory(dir=folder) as out, watched_memory() as memory:
        start = time.time()
        num_samplers = choose_samplers(None, plan.cpus_per_sampler, plan.device, growing=False)
        write_dataset(DatasetFolder.of(Path(out), plan), num_samplers, mark, actor=TimedSampler)
        end = time.time()
        num_bytes = sum(path.stat().st_size for path in (Path(out) / DATA_FOLDER).iterdir())
    (first_rows, first_cpu_s), (last_rows, last_cpu_s) = marks[0], marks[-1]
    return PipelineRun(
        rows_per_s=rows / (end - float(clock.read_text())),
        rows_per_s_with_start=rows / (end - start),
        cpu_s_per_row=(last_cpu_s - first_cpu_s) / max(1, last_rows - first_rows),
        peak_memory_mb=memory.peak_mb,
        bytes_per_row=num_bytes / rows,
    )


def generation_plan(
    trained: TrainedModel, num: int, batch_size: int, device: Device, cpus_per_sampler: int
) -> GenerationPlan:
    """The default layout."""
    return GenerationPlan(
        trained=trained,
        labels=make_plan("train", (), trained.spec, 0),
        layout=Layout(num, 8192, 512),
        row_format=RowFormat(trained.spec.label_names, 0, "png"),
        batch_size=batch_size,
        temperature=TEMPERATURE,
        device=device,
        cpus_per_sampler=cpus_per_sampler,
    )


@contextmanager
def watched_memory() -> Iterator[Memory]:
    """Watches this process and its descendants."""
    memory = Memory()

    def watch() -> None:
        while not memory.stop.wait(_MEMORY_EVERY_S):
            memory.peak_mb = max(memory.peak_mb, sum(map(_proportional_mb, [os.getpid(), *descendants(os.getpid())])))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory.stop.set()
        thread.join()


def _cpu_s(process: int) -> float:
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # gone meanwhile
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _proportional_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # gone meanwhile
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _synchronize(device: Any) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
