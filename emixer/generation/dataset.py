"""Sampler actors and encoders on Ray Data, and the driver that writes what they make, file after file.

    rows to draw -> sampler actors (one a GPU or a few CPUs) -> encoders (PNG, text) -> driver: Parquet

The three overlap. Results come to the driver in order, so it writes one file at a time and holds one row group, and no
other machine needs to see the disk; Ray Data stops the samplers when the driver falls behind. A file that is there is
never made again: that is all there is to resuming. An actor that dies is started again by Ray and its rows are drawn
again, which gives the same rows.

Shapes: N rows, Y labels and columns of conditions.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from emixer._version import __version__
from emixer.errors import ConfigError, UnfinishedError
from emixer.files import remove_partials
from emixer.generation.dataset_files import DATA_FOLDER, Layout, RowFormat, Rows, is_finished, open_file
from emixer.generation.encode_rows import encode_rows
from emixer.generation.manifest import fingerprint
from emixer.generation.plan_kinds import LabelPlan, plan_digest
from emixer.generation.sampler import Sampler
from emixer.generation.screening import NEVER_PASSED, Redrawing, Screen, Screening
from emixer.generation.trained_model import TrainedModel
from emixer.ray_session import capacity

_TASKS_A_SAMPLER = 4
"""A small dataset is cut into at least so many pieces for each sampler, so that all of them have work to the end."""

Columns = dict[str, NDArray[Any]]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class DatasetPlan:
    """Everything that decides what the dataset is. Travels to every actor."""

    trained: TrainedModel
    labels: LabelPlan
    layout: Layout
    row_format: RowFormat
    batch_size: int
    temperature: float
    device: Device
    cpus_per_sampler: int
    screening: Screening | None = None
    """None: every pair that is drawn is written."""

    @property
    def settings(self) -> dict[str, Any]:
        """The same as plain values, for the manifest; two datasets with equal settings have equal rows."""
        return {
            "weights_sha256": self.trained.digest,
            "num": self.layout.num_rows,
            "seed": self.row_format.seed,
            "labels": self.labels.description,
            "labels_digest": plan_digest(self.labels),
            "image_format": self.row_format.image_format,
            "rows_per_file": self.layout.rows_per_file,
            "rows_per_group": self.layout.rows_per_group,
            "batch_size": self.batch_size,
            "temperature": self.temperature,
            "device": self.device,
            "cpus_per_sampler": self.cpus_per_sampler if self.device == "cpu" else None,
            "emixer": __version__,
            "torch": torch.__version__,
            **({} if self.screening is None else self.screening.settings),
        }

    def screened_by(self, screen: Screen) -> "DatasetPlan":
        """With the screen that `screening` lacks; the rest, the settings too, is the same."""
        assert self.screening is not None, "only what is to be screened gets a screen"
        return replace(self, screening=replace(self.screening, screen=screen))


class SamplerActor:
    """Draws rows with a model that it loads once. A class for Ray Data's `map_batches`."""

    def __init__(self, plan: "ray.ObjectRef[DatasetPlan]") -> None:
        self._plan: DatasetPlan = ray.get(plan)
        if self._plan.device == "cpu":
            torch.set_num_threads(self._plan.cpus_per_sampler)
        self._sampler = Sampler(self._plan.trained, self._plan.device, self._plan.batch_size)
        screening = self._plan.screening
        self._redrawing: Redrawing | None = None
        if screening is not None:
            assert screening.screen is not None, "made before anything is drawn"
            judge = screening.screen.open(self._plan.device)
            self._redrawing = Redrawing(self._sampler, judge, self._plan.labels.labels, screening.most_redraws)

    def __call__(self, task: Columns) -> Columns:
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
    plan: DatasetPlan,
    folder: Path,
    num_samplers: int,
    on_rows: Callable[[int], None],
    actor: type[SamplerActor] = SamplerActor,
) -> None:
    """Writes the files of the dataset that are not there yet. Needs a Ray connection.

    on_rows: is told after each piece how many rows are new on their way to the disk.
    Raises StorageError when the disk is full, UnfinishedError when a row is flagged however often it is drawn; finished
    files stay.
    """
    data = folder / DATA_FOLDER
    data.mkdir(parents=True, exist_ok=True)
    remove_partials(data)
    missing = missing_files(plan.layout, folder, plan.settings)
    tables = encoded_tables(plan, [rows for _, rows in missing], num_samplers, actor)
    mark = fingerprint(plan.settings)
    for name, rows in missing:
        with open_file(data / name, rows, plan.layout, plan.row_format, mark) as writer:
            while not writer.is_full:
                table = next(tables)
                if plan.screening is not None:
                    _refuse_flagged(table, plan, plan.screening)
                writer.write(table)
                on_rows(table.num_rows)


def missing_files(layout: Layout, folder: Path, settings: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """Files that are not there, or not whole, or not of this dataset."""
    mark = fingerprint(settings)
    return [(name, rows) for name, rows in layout.files if not is_finished(folder / DATA_FOLDER / name, rows, mark)]


def encoded_tables(
    plan: DatasetPlan, ranges: Sequence[Rows], num_samplers: int, actor: type[SamplerActor] = SamplerActor
) -> Iterator[pa.Table]:
    """The rows of `ranges`, in order, as tables ready to be written. No table spans two ranges."""
    if not ranges:
        return
    size = _rows_a_task(plan, sum(rows.num for rows in ranges), num_samplers)
    tasks = [{"first": part.first, "num": part.num} for rows in ranges for part in rows.split(size)]
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    with DataContext.current(context):
        drawn = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            actor,
            fn_constructor_args=(ray.put(plan),),
            batch_size=None,
            batch_format="numpy",
            compute=ActorPoolStrategy(size=min(num_samplers, len(tasks))),
            num_gpus=1 if plan.device == "cuda" else None,
            num_cpus=1 if plan.device == "cuda" else plan.cpus_per_sampler,
        )
        encoded = drawn.map_batches(
            encode_rows,
            fn_args=(ray.put((plan.row_format, plan.trained.vocabulary)),),
            batch_size=None,
            batch_format="numpy",
            # On CPUs the samplers hold them all; encoding is a few per cent of their work and takes no share of its own
            num_cpus=0,
            compute=TaskPoolStrategy(size=min(_num_encoders(plan, num_samplers), len(tasks))),
        )
        yield from encoded.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


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


def _refuse_flagged(table: pa.Table, plan: DatasetPlan, screening: Screening) -> None:
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
        f"and in each of {screening.most_redraws} redraws ({reasons}), and no such pair is "
        "written. Finished files stay. Raise "
        f"generate.redraws={screening.most_redraws} and give the same command again. If it stops once more, the model "
        "has memorized what it was trained on under these labels: use an earlier checkpoint or other labels, or train "
        "on more images."
    )


def _rows_a_task(plan: DatasetPlan, num_rows: int, num_samplers: int) -> int:
    """A row group at most; less where samplers would go short of work. What a row is does not depend on it."""
    blocks = math.ceil(num_rows / (plan.batch_size * num_samplers * _TASKS_A_SAMPLER))
    return min(plan.layout.rows_per_group, blocks * plan.batch_size)


def _num_encoders(plan: DatasetPlan, num_samplers: int) -> int:
    if plan.device == "cpu":
        return num_samplers
    return max(num_samplers, int(capacity().get("CPU", 1)) - num_samplers)
