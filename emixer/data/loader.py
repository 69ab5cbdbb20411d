"""Shards -> training batches: Ray Data reads windows of images ahead; a worker slices batches out of them.

A window is one Ray block of fixed-width columns. Pixels are decoded from Parquet once, permuted once, and from then on
are views: into the block in shared memory, and slices of it. Only a batch that straddles two windows is copied.

Each worker runs its own small Ray Data execution over its own windows (emixer.data.order). That keeps the order a pure
function of the seed, which a shared `streaming_split` does not promise; docs/decisions/002-data-order.md.

Shapes: N images, P pixels of an image, L labels, Y labels and columns of conditions, S sentences, W words.
"""

import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from emixer.config.training import DataConfig
from emixer.data.conditions import NO_CONDITIONS, Conditions
from emixer.data.known_of_images import column_of, columns_in
from emixer.data.label_share import Hashes, kept_hashes
from emixer.data.labels import LabelPolicy
from emixer.data.order import DataOrder, Position
from emixer.data.patients import PATIENT, num_patients, patients_in
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import Vocabulary

_MAX_WINDOW_BYTES = 48 * 2**20
_SPAN_WINDOWS = 256
"""Most windows in one Ray Data execution: long enough to hide its start, short enough to plan in no time."""
_SPAN_BYTES = 256 * 2**20
"""Most images in one execution. It is read ahead as a whole, and beside it the next one. Not a limit on the execution's
object-store memory: at such a limit Ray Data's scheduler spins (docs/log.md)."""

Array = NDArray[Any]


@dataclass(frozen=True)
class HostBatch:
    """Images and targets in host memory, possibly views into shared memory: read-only."""

    image: Array
    """uint8 (N, side_px, side_px)."""
    labels: Array
    """uint8 (N, Y): 1 present, 0 absent or unknown; behind the labels, the columns of conditions, if there are any."""
    labelled: Array
    """bool (N): whether any label is known."""
    known: Array
    """bool (N, L): which labels are known, under the reader's policy."""
    words: Array
    """int32 (N, S, W) token ids."""
    has_report: Array
    """bool (N)."""

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, start: int, stop: int) -> "HostBatch":
        """A view of rows [start, stop)."""
        return HostBatch(*(column[start:stop] for column in self._columns()))

    @staticmethod
    def concatenate(parts: list["HostBatch"]) -> "HostBatch":
        """One batch of several; a single one is passed through without a copy."""
        if len(parts) == 1:
            return parts[0]
        return HostBatch(*(np.concatenate(columns) for columns in zip(*(p._columns() for p in parts), strict=True)))

    def _columns(self) -> tuple[Array, ...]:
        return self.image, self.labels, self.labelled, self.known, self.words, self.has_report


@dataclass(frozen=True)
class WindowReader:
    """Reads and permutes one window. Small and picklable: it travels with every read task."""

    files: tuple[Path, ...]
    groups: tuple[tuple[int, int], ...]
    """(file, row group within it) for each index of the order."""
    order: DataOrder
    vocabulary: Vocabulary
    side_px: int
    max_sentences: int
    max_words: int
    label_names: tuple[str, ...]
    policy: LabelPolicy
    kept: Hashes | None = None
    """Images that keep their labels, by the hash of their ids, in ascending order. None: all."""
    conditions: Conditions = NO_CONDITIONS
    """What is read of images beside their labels."""

    @property
    def window_bytes(self) -> int:
        """What a window takes in memory, roughly."""
        words = 4 * self.max_sentences * self.max_words
        return self.order.window_rows * (self.side_px**2 + words + 32)

    def read(self, window: int) -> HostBatch:
        """The images of `window` in their order."""
        table = self._read_groups(window, self._columns())
        destination = np.argsort(self.order.permutation(window, table.num_rows))
        return self._scatter(table, destination)

    def first_rows(self, num: int) -> Iterator[pa.Table]:
        """All columns of the first `num` images in the order of the windows, a table for each window."""
        for window in self.order.enough(range(self.order.num_windows), num):
            table = self._read_groups(window, None)
            rows = self.order.permutation(window, table.num_rows)[:num]
            num -= len(rows)
            yield table.take(rows)

    def read_rows(self, num_rows: int) -> HostBatch:
        """The first `num_rows` images of the split in shard order, e.g. for validation."""
        parts: list[HostBatch] = []
        for file, group in self.groups:
            table = pq.ParquetFile(self.files[file]).read_row_group(group, columns=self._columns())
            parts.append(self._scatter(table, np.arange(table.num_rows)))
            if sum(map(len, parts)) >= num_rows:
                break
        return HostBatch.concatenate(parts).rows(0, num_rows)

    def label_counts(self) -> tuple[Array, Array]:
        """Distinct vectors of the labelled images, uint8 (K, Y), and how many images carry each, int64 (K)."""
        columns = self._label_columns()
        found = [self._vectors(pq.read_table(file, columns=columns)) for file in self.files]
        labels = np.concatenate([labels[labelled] for labels, labelled, _ in found])
        vectors, counts = np.unique(labels, axis=0, return_counts=True)
        return vectors, counts

    def patients_of_labels(self) -> Array:
        """How many patients are those of the images with each of the vectors of `label_counts`, int64 (K)."""
        vectors, patients = [], []
        for file in self.files:
            table = pq.read_table(file, columns=[*self._label_columns(), *PATIENT])
            labels, labelled, _ = self._vectors(table)
            vectors.append(labels[labelled])
            patients.append(patients_in(table)[labelled])
        _, which = np.unique(np.concatenate(vectors), axis=0, return_inverse=True)
        return num_patients(which, np.concatenate(patients), len(np.unique(which)))

    def keeping(self, fraction: float) -> "WindowReader":
        """The same, where only that share of the labelled images of each class keep their labels."""
        columns = ["dicom_id", "labels"]
        hashes, labels = [], []
        for file in self.files:
            table = pq.read_table(file, columns=columns)
            present, labelled, _ = self._labels(table)
            hashes.append(_hashes(table)[labelled])
            labels.append(present[labelled])
        return replace(self, kept=kept_hashes(np.concatenate(hashes), np.concatenate(labels), fraction))

    def known_counts(self) -> tuple[Array, Array]:
        """Images of which each label is known to be present, and absent: int64 (Y) each."""
        columns = self._label_columns()
        present, absent = np.zeros((2, len(self.label_names)), np.int64)
        for file in self.files:
            labels, _, known = self._labels(pq.read_table(file, columns=columns))
            present += (known & (labels == 1)).sum(0)
            absent += (known & (labels == 0)).sum(0)
        return present, absent

    def _read_groups(self, window: int, columns: list[str] | None) -> pa.Table:
        """The row groups of a window, in the order of the shards."""
        by_file: dict[int, list[int]] = {}
        for file, group in sorted(self.groups[index] for index in self.order.groups_of(window)):
            by_file.setdefault(file, []).append(group)
        return pa.concat_tables(
            pq.ParquetFile(self.files[file]).read_row_groups(groups, columns=columns, use_threads=False)
            for file, groups in by_file.items()
        )

    def _columns(self) -> list[str]:
        return ["image", "sentences", *self._label_columns()]

    def _label_columns(self) -> list[str]:
        known = map(column_of, self.conditions.names)
        return ["labels", *(["dicom_id"] if self.kept is not None else []), *known]

    def _scatter(self, table: pa.Table, destination: Array) -> HostBatch:
        """Columns as arrays with row i moved to `destination[i]`; pixels are copied once, from the decoded chunks."""
        image = np.empty((len(destination), self.side_px, self.side_px), np.uint8)
        start = 0
        for chunk in table["image"].chunks:
            image[destination[start : start + len(chunk)]] = fixed_binary_view(chunk, np.uint8, image.shape[1:])
            start += len(chunk)
        labels, labelled, known = self._vectors(table)
        sentences = table["sentences"].combine_chunks()
        words = self.vocabulary.encode_sentences(sentences, self.max_sentences, self.max_words)
        has_report = sentences.is_valid().to_numpy(zero_copy_only=False)
        order = np.argsort(destination)
        return HostBatch(image, labels[order], labelled[order], known[order], words[order], has_report[order])

    def _vectors(self, table: pa.Table) -> tuple[Array, Array, Array]:
        """As `_labels`, with the columns of conditions behind the labels."""
        labels, labelled, known = self._labels(table)
        if not self.conditions.names:
            return labels, labelled, known
        return np.concatenate([labels, columns_in(table, self.conditions)], axis=1), labelled, known

    def _labels(self, table: pa.Table) -> tuple[Array, Array, Array]:
        kept = None if self.kept is None else np.isin(_hashes(table), self.kept)
        return read_labels(table["labels"].combine_chunks(), self.policy, self.label_names, kept)


def read_labels(
    column: pa.FixedSizeListArray, policy: LabelPolicy, names: tuple[str, ...], kept: Array | None = None
) -> tuple[Array, Array, Array]:
    """A shard's labels: present uint8 (N, Y), which rows are labelled bool (N), which labels are known bool (N, Y).

    kept: rows that keep their labels; None: all.
    """
    labelled = column.is_valid().to_numpy(zero_copy_only=False)
    if kept is not None:
        labelled = labelled & kept
    # values of a null vector are undefined in Arrow: its mask says so, whatever stands there
    size = column.type.list_size
    flat = column.values.slice(column.offset * size, len(column) * size)
    mentioned = flat.is_valid().to_numpy(zero_copy_only=False).reshape(len(column), size) & labelled[:, None]
    values = flat.fill_null(0).to_numpy(zero_copy_only=False).reshape(len(column), size)
    present, known = policy.resolve(values, mentioned, names)
    known &= labelled[:, None]
    return present, labelled, known


def open_windows(
    shards: ShardSet, split: str, config: DataConfig, seed: int, max_sentences: int, max_words: int,
    policy: LabelPolicy | None = None, conditions: Conditions = NO_CONDITIONS,
) -> WindowReader:  # fmt: skip
    """Plans the order of a split. Raises ShardError when the split is empty or a shard is damaged.

    policy: how labels are read. None: as models are given them, where unknown is absent and `data.uncertain` says what
    -1 is. conditions: what is read beside them.
    """
    files = tuple(shards.files(split))
    groups, group_rows = [], []
    for index, file in enumerate(files):
        metadata = pq.read_metadata(file)
        for group in range(metadata.num_row_groups):
            groups.append((index, group))
            group_rows.append(metadata.row_group(group).num_rows)
    side_px = shards.info.side_px
    window_rows = max(1, min(config.window_rows, _MAX_WINDOW_BYTES // side_px**2))
    reader = WindowReader(
        files=files,
        groups=tuple(groups),
        order=DataOrder(tuple(group_rows), window_rows, seed),
        vocabulary=shards.vocabulary,
        side_px=side_px,
        max_sentences=max_sentences,
        max_words=max_words,
        label_names=shards.info.label_names,
        policy=policy or LabelPolicy(config.uncertain, "zeros"),
        conditions=conditions,
    )
    if config.labelled_fraction < 1 and split == "train":  # what is measured is measured with all labels
        return reader.keeping(config.labelled_fraction)
    return reader


def open_without_reports(
    shards: ShardSet, split: str, config: DataConfig, seed: int, policy: LabelPolicy | None = None,
    conditions: Conditions = NO_CONDITIONS,
) -> WindowReader:  # fmt: skip
    """As `open_windows`, for images and labels alone: reports are cut to the shortest there may be."""
    return open_windows(shards, split, config, seed, max_sentences=1, max_words=2, policy=policy, conditions=conditions)


def read_ahead(reader: WindowReader, windows: Iterable[int], num_tasks: int) -> Iterator[HostBatch]:
    """Windows in the given order, read by Ray tasks. Needs a Ray connection until it is exhausted or closed.

    Windows are read in spans, each a Ray Data execution of its own; while one is used, the next is read already.
    num_tasks: how many Ray tasks read a span at once.
    """
    windows = iter(windows)
    length = max(num_tasks, min(_SPAN_WINDOWS, _SPAN_BYTES // reader.window_bytes))

    def start_next() -> tuple[HostBatch, Generator[HostBatch]] | None:
        if not (span := list(islice(windows, length))):
            return None
        batches = _read_span(reader, span, num_tasks)
        return next(batches), batches

    with ThreadPoolExecutor(1, "emixer-read-ahead") as starter:
        upcoming = starter.submit(start_next)
        try:
            while started := upcoming.result():
                upcoming = starter.submit(start_next)
                first, rest = started
                with closing(rest):
                    yield first
                    yield from rest
        finally:
            if started := upcoming.result():
                started[1].close()


def _read_span(reader: WindowReader, span: list[int], num_tasks: int) -> Generator[HostBatch]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from emixer.data.window_source import WindowSource

    here = ray.get_runtime_context().get_node_id()
    # until Ray 2.64, which has no other way to prefer a node without insisting on it
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    # One task reads its whole share of the span: with a task a window, Ray Data ran them one after the other
    source = WindowSource(partial(_read_block, ray.put(reader)), span, windows_per_task=-(-len(span) // num_tasks))
    dataset = ray.data.read_datasource(
        source,
        override_num_blocks=source.num_tasks,
        # Reading needs little CPU and must go on when training workers hold every CPU of the cluster
        num_cpus=0,
        concurrency=num_tasks,
        # Spread over the cluster, as by default, windows would cross the network twice, and be read on the head too
        ray_remote_args={"scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=True)},
    )
    dataset.context.execution_options.preserve_order = True
    dataset.context.enable_progress_bars = False
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        # Ray Data joins what a task reads up to 128 MB, without a copy: a part is a window
        for window in block.to_batches():
            yield _from_block(window, reader)


class BatchStream:
    """Batches of one worker. Iterate; `position` is where the next batch begins."""

    def __init__(
        self,
        reader: WindowReader,
        batch_rows: int,
        position: Position,
        worker: int,
        windows: Callable[[Iterable[int]], Iterator[HostBatch]],
        images: int | None = None,
    ) -> None:
        """windows: how to read window numbers, e.g. partial(read_ahead, reader, num_tasks=2), or without Ray
        lambda numbers: map(reader.read, numbers).
        images: how many will be asked for, so that none is read ahead for nobody; None: without end."""
        self.position = position
        self._batch_rows = batch_rows
        numbers, self._skip = reader.order.seek(position, worker)
        self._windows = windows(numbers if images is None else reader.order.enough(numbers, self._skip + images))
        self._parts: list[HostBatch] = []

    def __iter__(self) -> Iterator[HostBatch]:
        return self

    def __next__(self) -> HostBatch:
        parts: list[HostBatch] = []
        missing = self._batch_rows
        while missing:
            if not self._parts:
                window = next(self._windows)
                self._parts = [window.rows(self._skip, len(window))]
                self._skip = 0
            rest = self._parts.pop()
            parts.append(rest.rows(0, missing))
            if len(rest) > missing:
                self._parts = [rest.rows(missing, len(rest))]
            missing -= len(parts[-1])
        self.position = self.position.advanced(self._batch_rows)
        return HostBatch.concatenate(parts)


def fixed_binary_view(column: pa.ChunkedArray | pa.Array, dtype: DTypeLike, shape: tuple[int, ...]) -> Array:
    """A fixed-size binary column as an array (N, *shape). A view of the Arrow buffer when the column is one chunk."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    return data.view(dtype).reshape(len(column), *shape)


def _hashes(table: pa.Table) -> Hashes:
    """Of the images' ids."""
    hashes: Hashes = pd.util.hash_array(table["dicom_id"].to_numpy().astype(object))
    return hashes


def _fixed_binary(array: Array) -> pa.Array:
    array = np.ascontiguousarray(array)
    width = array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(array), [None, pa.py_buffer(array)])


def _read_block(reader: Any, window: int) -> pa.Table:
    import ray

    batch = ray.get(reader).read(window)  # by reference: the vocabulary travels once, not with every task
    return pa.table({name: _fixed_binary(getattr(batch, name)) for name in batch.__dataclass_fields__})


def _from_block(block: pa.RecordBatch, reader: WindowReader) -> HostBatch:
    side, num_labels = reader.side_px, len(reader.label_names)
    return HostBatch(
        image=fixed_binary_view(block["image"], np.uint8, (side, side)),
        labels=fixed_binary_view(block["labels"], np.uint8, (num_labels + reader.conditions.num_columns,)),
        labelled=fixed_binary_view(block["labelled"], np.bool_, ()),
        known=fixed_binary_view(block["known"], np.bool_, (num_labels,)),
        words=fixed_binary_view(block["words"], np.int32, (reader.max_sentences, reader.max_words)),
        has_report=fixed_binary_view(block["has_report"], np.bool_, ()),
    )
