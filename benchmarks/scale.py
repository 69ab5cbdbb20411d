"""Scale, on one small machine: the driver of a hundred samplers, and a cluster of 16 nodes.

    python benchmarks/scale.py generation [--rows 600000] [--samplers 100]
    python benchmarks/scale.py nodes --run RUN --shards SHARDS [--nodes 16] [--rows 6000] [--images 3776]

generation    `emixer generate`'s own path with its real driver, Ray Data, object store and files, on a Ray that is told
              to have a CPU for each sampler. Only samplers are simulated: instead of drawing, they return rows drawn
              and encoded beforehand, so they are faster than any network, and the driver is what limits. Prints the
              driver's time per block and private memory at the peak, what the object store held, and the files.
nodes         `python -m cluster` on the test bed of tests/slurm (root, Debian packages of SLURM), with a node of a CPU
              for each worker: `emixer generate` with the trained RUN, then `emixer train` with as many workers on
              SHARDS. A hundredth of the paper's sizes by default. Prints how many nodes there were at the end of each,
              the cluster's events, and what was left. All nodes share this machine, so its rates mean nothing.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import yaml
from generation import generation_plan
from random_model import random_model

from emixer.config import RayConfig, load_config
from emixer.generation.dataset import SamplerActor, write_dataset
from emixer.generation.dataset_files import DATA_FOLDER
from emixer.generation.dataset_folder import DatasetFolder
from emixer.ray_session import connect

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "slurm"))
from testbed import TestBed  # noqa: E402 - the tests' own bed, which is no part of the package

_POOL = 512
"""Rows drawn beforehand."""


def main() -> None:
    """Runs the part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    generation = parts.add_parser("generation")
    generation.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    generation.add_argument("--rows", type=int, default=600_000)
    generation.add_argument("--samplers", type=int, default=100)
    nodes = parts.add_parser("nodes")
    nodes.add_argument("--run", type=Path, required=True)
    nodes.add_argument("--shards", type=Path, required=True)
    nodes.add_argument("--nodes", type=int, default=16)
    nodes.add_argument("--rows", type=int, default=6_000)
    nodes.add_argument("--images", type=int, default=3_776)
    args = parser.parse_args()
    if args.part == "generation":
        measure_generation(args.config, args.rows, args.samplers)
    else:
        measure_nodes(args.run.resolve(), args.shards.resolve(), args.nodes, args.rows, args.images)


def measure_generation(config: Path, num_rows: int, num_samplers: int) -> None:
    """Prints what the driver took."""
    plan = generation_plan(random_model(load_config([config])), num_rows, 64, "cpu", 1)
    with (
        tempfile.TemporaryDirectory() as temporary,
        connect(RayConfig(num_cpus=num_samplers, object_store_mb=1000)),
    ):
        pool = ray.put(draw_pool(generation_plan(plan.trained, _POOL, 64, "cpu", 1), Path(temporary) / "pool"))

        class SimulatedSampler:
            """Returns rows drawn beforehand. Defined here, so that actors get it by value and import no torch."""

            def __init__(self, shared: object, is_encoded_apart: bool) -> None:
                self._pool: pa.Table = ray.get(pool)

            def __call__(self, task: dict[str, Any]) -> pa.Table:
                first, num = int(task["first"][0]), int(task["num"][0])
                index = pa.array(range(first, first + num), pa.int64())
                drawn = self._pool.take(pa.array([row % self._pool.num_rows for row in range(num)]))
                return drawn.set_column(drawn.schema.get_field_index("index"), drawn.schema.field("index"), index)

        out = Path(temporary) / "dataset"
        before_mb, cpu_s, began, first_at, blocks = private_mb(), time.process_time(), time.perf_counter(), 0.0, 0
        peak_mb, store_mb = before_mb, 0.0

        def on_rows(_: int) -> None:
            nonlocal first_at, blocks, peak_mb, store_mb, cpu_s
            if not blocks:
                first_at, cpu_s = time.perf_counter(), time.process_time()
            blocks += 1
            peak_mb = max(peak_mb, private_mb())
            if blocks % 100 == 0:  # asking takes time, too
                free = ray.available_resources().get("object_store_memory", 0.0)
                store_mb = max(store_mb, (ray.cluster_resources()["object_store_memory"] - free) / 2**20)

        folder = DatasetFolder.of(out, plan)
        write_dataset(folder, num_samplers, on_rows, actor=SimulatedSampler)  # type: ignore[arg-type]
        done = time.perf_counter()
        files = list((out / DATA_FOLDER).iterdir())
        size_mb = sum(file.stat().st_size for file in files) / 2**20
    spent = time.process_time() - cpu_s
    print(f"{num_rows:,} rows, {num_samplers} simulated samplers, {os.cpu_count()} cores here")
    print(f"  first block after          {first_at - began:10.1f} s (start of {num_samplers} processes)")
    print(f"  then                       {num_rows / (done - first_at):10,.0f} rows/s")
    print(f"  driver, CPU time           {spent / (blocks - 1) * 1e3:10.1f} ms a block of {num_rows // blocks:,} rows")
    print(f"                             {num_rows / spent:10,.0f} rows/s if it had a core to itself")
    print(f"  driver, private memory     {before_mb:10.0f} MB at the start, {peak_mb:.0f} MB at the peak")
    print(f"  object store               {store_mb:10.0f} MB at the most")
    print(f"  files                      {len(files):10,} of {size_mb / len(files):.1f} MB")


def draw_pool(plan: Any, folder: Path) -> pa.Table:
    """Draws and encodes the rows that all simulated samplers return."""
    shared = ray.put((plan, None))
    actor = SamplerActor(shared, is_encoded_apart=False)
    folder.mkdir()
    table = actor({"first": [0], "num": [plan.layout.num_rows]})  # type: ignore[dict-item]
    assert isinstance(table, pa.Table)
    return table


def measure_nodes(run: Path, shards: Path, num_nodes: int, num_rows: int, num_images: int) -> None:
    """Prints how a cluster of so many nodes was used by each stage."""
    reason = TestBed.why_not()
    if reason is not None:
        sys.exit(reason)
    with TestBed.start(nodes=num_nodes + 1, cpus=2, memory_mb=3000, gpus=0) as bed:
        folder = Path(tempfile.mkdtemp(dir=bed.folder))
        config = {
            "name": "scale", "folder": str(folder / "rays"), "local_disk": str(bed.disk), "idle_timeout_s": 30,
            "poll_s": 1, "head": {"cpus": 1, "memory_gb": 2, "time_min": 60},
            "node_types": {"cpu": {"cpus": 1, "memory_gb": 2, "time_min": 60, "max": num_nodes}},
        }  # fmt: skip
        (folder / "cluster.yaml").write_text(yaml.safe_dump(config))

        def cluster(*arguments: str) -> str:
            return str(
                bed.run(
                    [sys.executable, "-m", "cluster", *arguments], timeout_s=1800, cwd=folder,
                    environment={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                ).stdout
            )  # fmt: skip

        def events() -> Counter[str]:
            return Counter(str(event["what"]) for event in events_of(folder / "rays" / "scale"))

        chosen = ("--folder", str(folder / "rays"), "--name", "scale")
        emixer = ("submit", *chosen, "--", sys.executable, "-m", "emixer")
        cluster("up", "--config", str(folder / "cluster.yaml"))
        stages = {
            "generate": ("--run", str(run), "--num", str(num_rows), "--out", str(folder / "pairs"),
                         "--set", f"generate.num_samplers={num_nodes}", "--set", "generate.rows_per_group=64",
                         "--set", "generate.rows_per_file=1024"),
            "train": ("--config", str(run / "config.yaml"), "--shards", str(shards), "--run", str(folder / "run"),
                      "--images", str(num_images), "--num-workers", str(num_nodes), "--set", "train.use_gpu=false",
                      "--set", "train.cpus_per_worker=1", "--set", f"train.batch_size={4 * num_nodes}"),
        }  # fmt: skip
        try:
            for stage, arguments in stages.items():
                began = time.monotonic()
                shown = cluster(*emixer, stage, *arguments)
                status = json.loads(cluster("status", *chosen, "--json"))
                joined = sum(job["kind"] == "cpu" and job["state"] in ("busy", "idle") for job in status["jobs"])
                print(f"{stage}: {time.monotonic() - began:.0f} s, {joined} nodes at its end; so far {dict(events())}")
                print("  " + shown.strip().splitlines()[-1], flush=True)
            why = Counter(
                f"{event['what']}: {re.sub(r'[0-9]+', 'N', str(event['detail']))}"
                for event in events_of(folder / "rays" / "scale")
                if event["what"] in ("left", "refused")
            )
            print("\n".join(f"  {num} {reason}" for reason, num in why.most_common()), flush=True)
        finally:
            cluster("down", *chosen)
        print(f"files of pairs: {len(list((folder / 'pairs' / 'data').iterdir()))}; left behind: "
              f"{len(bed.processes_of('RAY_ON_SLURM='))} processes")  # fmt: skip


def events_of(cluster_folder: Path) -> list[dict[str, Any]]:
    """What a cluster has noted so far."""
    return [json.loads(line) for line in (cluster_folder / "events.jsonl").read_text().splitlines()]


def private_mb() -> float:
    """Private resident memory of this process [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
