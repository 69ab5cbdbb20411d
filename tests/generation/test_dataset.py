"""The Ray Data pipeline on a real cluster: rows do not depend on samplers, lengths, deaths or restarts."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from emixer.errors import ConfigError
from emixer.generation.dataset import SamplerActor, choose_samplers, encoded_tables, write_dataset
from emixer.generation.dataset_files import DATA_FOLDER, Layout, RowFormat, Rows, open_file
from emixer.generation.dataset_folder import DatasetFolder
from emixer.generation.encoding import encode_png
from emixer.generation.generation_plan import GenerationPlan
from emixer.generation.plan import make_plan
from emixer.generation.sampler import Sampler
from emixer.generation.trained_model import read_trained_model

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

BATCH, SEED, TEMPERATURE = 16, 4, 0.7


@pytest.fixture(scope="module")
def make_generation_plan(tiny_run: Path) -> Callable[[int], GenerationPlan]:
    trained = read_trained_model(tiny_run)

    def make(num: int) -> GenerationPlan:
        return GenerationPlan(
            trained=trained,
            labels=make_plan("train", (), trained.spec, SEED),
            layout=Layout(num, rows_per_file=64, rows_per_group=32),
            row_format=RowFormat(trained.spec.label_names, SEED, "png"),
            batch_size=BATCH,
            temperature=TEMPERATURE,
            device="cpu",
            cpus_per_sampler=1,
        )

    return make


@pytest.fixture(scope="module")
def expected_rows(make_generation_plan: Callable[[int], GenerationPlan], tiny_run: Path) -> pa.Table:
    """The first 150 rows as `emixer.load(...).sample` draws them, in this process."""
    pairs = Sampler(read_trained_model(tiny_run), "cpu", BATCH).sample(num=150, seed=SEED, temperature=TEMPERATURE)
    table = make_generation_plan(150).row_format.table(0, pairs.images, pairs.reports, pairs.labels)
    assert table["image"].combine_chunks().field("bytes").to_pylist() == encode_png(pairs.images)
    return table


def test_rows_of_two_samplers_are_those_of_a_longer_sample_in_this_process(
    make_generation_plan: Callable[[int], GenerationPlan], expected_rows: pa.Table
) -> None:
    rows = pa.concat_tables(encoded_tables(make_generation_plan(100), [Rows(0, 64), Rows(64, 36)], 2))
    assert rows.equals(expected_rows.slice(0, 100))


def test_rows_of_one_sampler_that_is_killed_are_the_same(
    make_generation_plan: Callable[[int], GenerationPlan], expected_rows: pa.Table, tmp_path: Path
) -> None:
    marker = tmp_path / "was killed"

    class Mortal(SamplerActor):
        def draw(self, task: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if task["first"][0] >= 64 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().draw(task)

    plan = make_generation_plan(150)
    rows = pa.concat_tables(encoded_tables(plan, [Rows(0, 150)], 1, actor=Mortal))
    assert marker.exists()
    assert rows.equals(expected_rows)


def test_rows_of_samplers_on_gpus_are_encoded_on_the_cpus_beside_them(
    expected_rows: pa.Table, tiny_run: Path, tmp_path: Path
) -> None:
    """Ray is told of two GPUs, on a node with one CPU; samplers that hold them draw on the CPU."""
    rows = tmp_path / "rows.arrow"
    script = _DRIVER_WITH_GPUS.format(run=str(tiny_run), rows=str(rows))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert pa.ipc.open_file(rows).read_all().equals(expected_rows)
    assert ended.stdout == "samplers 2\n"


def test_a_full_gpu_is_told_with_what_to_lower(make_generation_plan: Callable[[int], GenerationPlan]) -> None:
    class Large(SamplerActor):
        def draw(self, task: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    sampler = Large(ray.put((make_generation_plan(100), None)), True)
    with pytest.raises(ConfigError, match=r"does not hold 16 pairs at a time.*lower generate\.batch_size"):
        sampler({"first": np.array([0]), "num": np.array([32])})


_DRIVER_WITH_GPUS = """
from dataclasses import replace
from pathlib import Path
import pyarrow as pa
import ray
from ray.data import DataContext
from emixer.config import RayConfig
from emixer.generation.dataset import SamplerActor, choose_samplers, encoded_tables
from emixer.generation.dataset_files import Layout, RowFormat, Rows
from emixer.generation.generation_plan import GenerationPlan
from emixer.generation.plan import make_plan
from emixer.generation.trained_model import read_trained_model
from emixer.ray_session import connect

class OnCpu(SamplerActor):
    def __init__(self, shared, is_encoded_apart):
        plan, screen = ray.get(shared)
        assert ray.get_runtime_context().get_assigned_resources()["GPU"] == 1
        super().__init__(ray.put((replace(plan, device="cpu"), screen)), is_encoded_apart)

trained = read_trained_model(Path({run!r}))
plan = GenerationPlan(
    trained, make_plan("train", (), trained.spec, 4), Layout(150, 64, 32),
    RowFormat(trained.spec.label_names, 4, "png"), 16, 0.7, "cuda", 1,
)
with connect(RayConfig(num_cpus=1, num_gpus=2)):
    num_samplers = choose_samplers(None, 1, "cuda", growing=False)
    tables = list(encoded_tables(plan, [Rows(0, 150)], num_samplers, actor=OnCpu))
with pa.OSFile({rows!r}, "wb") as sink, pa.ipc.new_file(sink, tables[0].schema) as writer:
    for table in tables:
        writer.write_table(table)
print("samplers", num_samplers)
"""


def test_dataset_whose_driver_was_killed_is_finished_without_gap_or_double(
    make_generation_plan: Callable[[int], GenerationPlan], expected_rows: pa.Table, tiny_run: Path, tmp_path: Path
) -> None:
    plan = make_generation_plan(150)
    script = _KILLED_DRIVER.format(run=str(tiny_run), out=str(tmp_path), address=ray.get_runtime_context().gcs_address)
    command = [sys.executable, "-c", script]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    data = tmp_path / DATA_FOLDER
    finished = [path for path in data.iterdir() if path.suffix == ".parquet"]
    assert [path.name for path in finished] == ["train-00000-of-00003.parquet"]
    assert len(list(data.iterdir())) == 2, "the file that was being written is left behind half"
    before = finished[0].stat()

    told: list[int] = []
    write_dataset(DatasetFolder.of(tmp_path, plan), 1, told.append)
    assert sum(told) == 150 - 64
    assert sorted(path.name for path in data.iterdir()) == [name for name, _ in plan.layout.files]
    assert (finished[0].stat().st_ino, finished[0].stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    for name, rows in plan.layout.files:
        with open_file(tmp_path / name, rows, plan.layout, plan.row_format, plan.fingerprint) as writer:
            writer.write(expected_rows.slice(rows.first, rows.num))
        assert (data / name).read_bytes() == (tmp_path / name).read_bytes()


_KILLED_DRIVER = """
import os, signal
from pathlib import Path
from emixer.config import RayConfig
from emixer.generation.dataset import write_dataset
from emixer.generation.dataset_files import Layout, RowFormat
from emixer.generation.dataset_folder import DatasetFolder
from emixer.generation.generation_plan import GenerationPlan
from emixer.generation.plan import make_plan
from emixer.generation.trained_model import read_trained_model
from emixer.ray_session import connect

trained = read_trained_model(Path({run!r}))
plan = GenerationPlan(
    trained, make_plan("train", (), trained.spec, 4), Layout(150, 64, 32),
    RowFormat(trained.spec.label_names, 4, "png"),
    16, 0.7, "cpu", 1,
)
written = 0

def die_in_the_second_file(num):
    global written
    written += num
    if written > 64:
        os.kill(os.getpid(), signal.SIGKILL)

with connect(RayConfig(address={address!r})):
    write_dataset(DatasetFolder(Path({out!r}), plan), 1, die_in_the_second_file)
"""


def test_settings_change_with_everything_that_decides_rows(
    make_generation_plan: Callable[[int], GenerationPlan],
) -> None:
    plan = make_generation_plan(100)
    others = [
        make_generation_plan(101),
        replace(plan, batch_size=32),
        replace(plan, temperature=0.0),
        replace(plan, device="cuda"),
        replace(plan, cpus_per_sampler=2),
        replace(plan, trained=replace(plan.trained, digest="other")),
        replace(plan, labels=make_plan("balanced", (), plan.trained.spec, SEED)),
        replace(plan, row_format=replace(plan.row_format, seed=5)),
        replace(plan, row_format=replace(plan.row_format, image_format="jpeg")),
    ]
    assert len({str(p.settings) for p in (plan, *others)}) == 1 + len(others)


def test_samplers_fill_the_cluster_or_it_is_said_what_it_lacks() -> None:
    assert choose_samplers(None, 2, "cpu", growing=False) == 1
    assert choose_samplers(None, 1, "cpu", growing=False) == 2
    assert choose_samplers(3, 1, "cpu", growing=True) == 3
    with pytest.raises(ConfigError, match=r"has 2 CPUs, enough for 1 samplers of 2 CPU\(s\); 2 requested"):
        choose_samplers(2, 2, "cpu", growing=False)
    with pytest.raises(ConfigError, match=r"has 0 GPUs.*use_gpu=false"):
        choose_samplers(None, 1, "cuda", growing=False)
