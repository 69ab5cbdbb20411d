"""Sampler actors and encoders on Ray Data, and the driver that writes what they make, file after file.

    rows to draw -> sampler actors (one a GPU or a few CPUs) -> encoders (PNG, text) -> driver: Parquet

The three overlap. On CPUs samplers encode what they draw: processes apart would win nothing there, and cost their start
and a copy of all pixels. Results come to the driver in order, so it writes one file at a time and holds one row group,
and no other machine needs to see the disk; Ray Data stops the samplers when the driver falls behind. A file that is
there is never made again: that is all there is to resuming. An actor that dies is started again by Ray and its rows are
drawn again, which gives the same rows.

Shapes: N rows, Y labels and columns of conditions.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext

from emixer.errors import ConfigError, UnfinishedError
from emixer.generation.dataset_files import Rows
from emixer.generation.dataset_folder import DatasetFolder
from emixer.generation.encode_rows import encode_rows, encode_rows_with
from emixer.generation.generation_plan import GenerationPlan, Screening
from emixer.generation.sampler import Sampler
from emixer.generation.screening import NEVER_PASSED, Redrawing, Screen
from emixer.models.cuda import Device, require_cuda
from emixer.ray_session import capacity

_TASKS_A_SAMPLER = 4
"""A small dataset is cut into at least so many pieces for each sampler, so that all of them have work to the end."""

Columns = dict[str, NDArray[Any]]


class SamplerActor:
    """Draws rows with a model that it loads once. A class for Ray Data's `map_batches`."""

    def __init__(self, shared: "ray.ObjectRef[tuple[GenerationPlan, Screen | None]]", is_encoded_apart: bool) -> None:
        self._plan, screen = ray.get(shared)
        self._vocabulary, self._is_encoded_apart = self._plan.trained.vocabulary, is_encoded_apart
        if self._plan.device == "cuda":
            require_cuda("generate.use_gpu")
        else:
            torch.set_num_threads(self._plan.cpus_per_sampler)
        self._sampler = Sampler(self._plan.trained, self._plan.device, self._plan.batch_size)
        self._redrawing: Redrawing | None = None
        if self._plan.screening is not None:
            assert screen is not None, "made before anything is drawn"
            judge, max_redraws = screen.open(self._plan.device), self._plan.screening.max_redraws
            self._redrawing = Redrawing(self._sampler, judge, self._plan.labels.labels, max_redraws)

    def __call__(self, task: Columns) -> Columns | pa.Table:
        """Draws the rows that `task` names, and encodes them if nobody else does."""
        try:
            drawn = self.draw(task)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"The GPU's memory does not hold {self._plan.batch_size} pairs at a time. Check that nothing else uses "
                "the GPU, or generate with a lower generate.batch_size into a new folder: a dataset has one for all of "
                "its rows."
            ) from error
        return drawn if self._is_encoded_apart else encode_rows(drawn, self._plan.row_format, self._vocabulary)

    def draw(self, task: Columns) -> Columns:
        """Draws the rows that `task` names: pixels, token ids, labels and, if screened, redraws and their reasons."""
        plan = self._plan
        rows = Rows(int(task["first"][0]), int(task["num"][0]))
        labels_NY = plan.labels.labels(rows.first, self._sampler.padded(rows.num))
        images, words = self._sampler.draw(labels_NY, rows.first, plan.row_format.seed, plan.temperature)
        columns: Columns = {"index": np.arange(rows.first, rows.end), "labels": labels_NY[: rows.num]}
        if self._redrawing is not None:
            redrawn = self._redrawing.replace_flagged(rows, images, words, plan.row_format.seed, plan.temperature)
            columns |= {"redraws": redrawn.redraws_N, "withheld_for": redrawn.withheld_for_N}
        return columns | {"image": images[: rows.num], "words": words[: rows.num]}


def write_dataset(
    dataset: DatasetFolder,
    num_samplers: int,
    on_rows: Callable[[int], None],
    screen: Screen | None = None,
    actor: type[SamplerActor] = SamplerActor,
) -> None:
    """Writes the files of the dataset that are not there yet. Needs a Ray connection.

    on_rows: is told after each piece how many rows are new on their way to the disk. screen: by which `plan.screening`
    judges. Raises StorageError when the disk is full, UnfinishedError when a row is flagged however often it is drawn;
    finished files stay.
    """
    plan = dataset.plan
    dataset.begin()
    missing = dataset.missing_files()
    # closed on errors too: Ray Data's thread would go on, and call Ray once this process has left it
    with closing(encoded_tables(plan, [rows for _, rows in missing], num_samplers, screen, actor)) as tables:
        for name, rows in missing:
            with dataset.open_file(name, rows) as writer:
                while not writer.is_full:
                    table = next(tables)
                    if plan.screening is not None:
                        _refuse_flagged(table, plan, plan.screening)
                    writer.write(table)
                    on_rows(table.num_rows)


def encoded_tables(
    plan: GenerationPlan,
    ranges: Sequence[Rows],
    num_samplers: int,
    screen: Screen | None = None,
    actor: type[SamplerActor] = SamplerActor,
) -> Generator[pa.Table]:
    """The rows of `ranges`, in order, as tables ready to be written. No table spans two ranges."""
    if not ranges:
        return
    on_gpus = plan.device == "cuda"
    size = _rows_per_task(plan, sum(rows.num for rows in ranges), num_samplers)
    tasks = [{"first": part.first, "num": part.num} for rows in ranges for part in rows.split(size)]
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    with DataContext.current(context):
        rows = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            actor,
            fn_constructor_args=(ray.put((plan, screen)), on_gpus),
            batch_size=1,  # one task; with GPUs Ray Data takes no None
            batch_format="numpy",
            compute=ActorPoolStrategy(size=min(num_samplers, len(tasks))),
            num_gpus=1 if on_gpus else None,
            # the CPUs beside GPUs are the encoders': if samplers held some, a node with few would leave GPUs idle
            num_cpus=0 if on_gpus else plan.cpus_per_sampler,
        )
        if on_gpus:
            rows = rows.map_batches(
                encode_rows_with,
                fn_args=(ray.put((plan.row_format, plan.trained.vocabulary)),),
                batch_size=None,
                batch_format="numpy",
                num_cpus=1,  # without one they would run on a cluster's head, too
            )
        yield from rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def choose_samplers(num_samplers: int | None, cpus_per_sampler: int, device: Device, growing: bool) -> int:
    """How many samplers: as many as asked for, or as the connected cluster has room for, as far as it may grow.

    growing: whether it may get more nodes than it knows of, so that samplers may wait for them. Raises ConfigError when
    the cluster cannot hold what is asked for and will not grow.
    """
    resources = capacity()
    unit, share = ("GPU", 1) if device == "cuda" else ("CPU", cpus_per_sampler)
    room = int(resources.get(unit, 0) // share)
    if room < (num_samplers or 1) and not growing:
        raise ConfigError(
            f"The Ray cluster has {resources.get(unit, 0):g} {unit}s, enough for {room} samplers of {share} {unit}(s); "
            f"{num_samplers or 1} requested. Lower generate.num_samplers"
            + (" or generate.cpus_per_sampler." if unit == "CPU" else " or set generate.use_gpu=false.")
        )
    return num_samplers or max(1, room)


def _refuse_flagged(table: pa.Table, plan: GenerationPlan, screening: Screening) -> None:
    """Nothing flagged is ever written: what a dataset promises must hold of every row, or nobody can rely on it."""
    never = np.flatnonzero(table["redraws"].to_numpy() == NEVER_PASSED)
    if not len(never):
        return
    place = int(never[0])
    row, reasons = int(table["index"][place].as_py()), table["withheld_for"][place].as_py()
    names = plan.row_format.label_names
    has = [name for name, value in zip(names, plan.labels.labels(row, 1)[0, : len(names)], strict=True) if value]
    raise UnfinishedError(
        f"Row {row:,} ({', '.join(has) or 'no label'}) repeats training data by the audit's measure, as first drawn "
        f"and in each of {screening.max_redraws} redraws ({reasons}), and no such pair is "
        "written. Finished files stay. Raise "
        f"generate.redraws={screening.max_redraws} and give the same command again. If it stops once more, the model "
        "has memorized what it was trained on under these labels: use an earlier checkpoint or other labels, or train "
        "on more images."
    )


def _rows_per_task(plan: GenerationPlan, num_rows: int, num_samplers: int) -> int:
    """A row group at most; less where samplers would go short of work. What a row is does not depend on it."""
    blocks = math.ceil(num_rows / (plan.batch_size * num_samplers * _TASKS_A_SAMPLER))
    return min(plan.layout.rows_per_group, blocks * plan.batch_size)
