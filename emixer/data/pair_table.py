"""Pairs as arrays, real ones from shards and generated ones from a dataset, for what compares or mixes the two.

Generated images are compressed in Parquet, one by one. They are decoded once, into plain arrays on disk that every
process maps into its memory; real images are plain bytes already.

Shapes: N pairs, B pairs of a batch, H = W side [px], Y labels, S sentences, W words of a sentence.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from emixer.config.training import DataConfig
from emixer.data.array_file import new_array
from emixer.data.conditions import NO_CONDITIONS, Columns, Conditions
from emixer.data.labels import LabelPolicy
from emixer.data.loader import HostBatch, WindowReader, open_windows
from emixer.data.patients import PATIENT, subjects_in
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import Vocabulary, read_written
from emixer.errors import ShardError
from emixer.files import written_aside

_IMAGES, _LABELS, _WORDS = "images.npy", "labels.npy", "words.npy"
_DECODERS = 4
_TABLE_VERSION = 2
_FORMATS = ("PNG", "JPEG")
"""What datasets hold. A dataset may be anybody's, and among Pillow's other formats is one that starts Ghostscript."""


@dataclass(frozen=True)
class PairTable:
    """Images with labels and reports, possibly views of files: read-only."""

    image_NHW: NDArray[np.uint8]
    """Gray values."""
    labels_NY: NDArray[np.float32]
    """1 present, 0 absent, NaN not known."""
    words_NSW: NDArray[np.int32]
    """Token ids in the layout of `Vocabulary.encode_sentences`; a pair without a report is all PAD."""

    def __len__(self) -> int:
        return len(self.image_NHW)

    def head(self, num: int) -> "PairTable":
        """A view of the first `num` pairs."""
        return PairTable(self.image_NHW[:num], self.labels_NY[:num], self.words_NSW[:num])

    def take(self, index_B: NDArray[np.int64]) -> "PairTable":
        """Copies of those pairs, in that order."""
        return PairTable(self.image_NHW[index_B], self.labels_NY[index_B], self.words_NSW[index_B])

    def batches(self, size: int) -> Iterator["PairTable"]:
        """Views of `size` pairs each, in order; the last may be smaller."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield PairTable(self.image_NHW[part], self.labels_NY[part], self.words_NSW[part])


@dataclass(frozen=True)
class ChosenPairs:
    """Some rows of a table, which is not copied."""

    table: PairTable
    rows_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows_N)

    def take(self, index_B: NDArray[np.int64]) -> PairTable:
        """Copies of those pairs, in that order."""
        return self.table.take(self.rows_N[index_B])


@dataclass(frozen=True)
class Mixture:
    """Several tables end to end, none of them copied."""

    parts: tuple[PairTable | ChosenPairs, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def take(self, index_B: NDArray[np.int64]) -> PairTable:
        """Copies of those pairs, in that order."""
        first = np.cumsum([0, *map(len, self.parts)])
        part_B = np.searchsorted(first, index_B, side="right") - 1
        like = self.parts[0].table if isinstance(self.parts[0], ChosenPairs) else self.parts[0]
        made = PairTable(
            np.empty((len(index_B), *like.image_NHW.shape[1:]), np.uint8),
            np.empty((len(index_B), *like.labels_NY.shape[1:]), np.float32),
            np.empty((len(index_B), *like.words_NSW.shape[1:]), np.int32),
        )
        for number, part in enumerate(self.parts):
            here = part_B == number
            taken = part.take(index_B[here] - first[number])
            made.image_NHW[here], made.labels_NY[here], made.words_NSW[here] = (
                taken.image_NHW, taken.labels_NY, taken.words_NSW
            )  # fmt: skip
        return made


@dataclass(frozen=True)
class TableShape:
    """What the tables of one experiment have in common."""

    label_names: tuple[str, ...]
    """Columns of `labels_NY`."""
    side_px: int
    max_sentences: int
    max_words: int
    vocabulary: Vocabulary

    @property
    def digest(self) -> str:
        """Short hash."""
        told = [_TABLE_VERSION, self.label_names, self.side_px, self.max_sentences, self.max_words,
                self.vocabulary.tokens]  # fmt: skip
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RealPairs:
    """Real pairs with what stands beside them in the shards."""

    table: PairTable
    subjects: tuple[str, ...]
    """Whose image each is, with the source: what intervals are resampled by. Never printed."""
    reports: tuple[list[list[str]] | None, ...]
    """Tokens as they stand, whatever the vocabulary and the lengths that a model knows."""
    columns_NC: Columns
    """Of the conditions that were asked for."""

    @classmethod
    def read(
        cls, shards: ShardSet, split: str, shape: TableShape, policy: LabelPolicy,
        conditions: Conditions = NO_CONDITIONS,
    ) -> Self:  # fmt: skip
        """All pairs of a split, in the order of the shards. Raises ShardError when it is empty or lacks a label."""
        host = _reader(shards, split, shape, policy, 0, conditions).read_rows(shards.num_rows(split))
        columns = ["sentences", *PATIENT]
        beside = pa.concat_tables(pq.read_table(file, columns=columns) for file in shards.files(split))
        reports = tuple(beside["sentences"].to_pylist())
        return cls(_table(host, shards, shape), tuple(subjects_in(beside)), reports, _beside_labels(host, shards))


def read_real(
    shards: ShardSet, split: str, shape: TableShape, policy: LabelPolicy, num: int, seed: int = 0
) -> PairTable:
    """`num` pairs of a split, drawn by row groups in an order that the seed decides; the first ones are the same
    whatever `num` is. Raises ShardError when the split has fewer."""
    table, _ = read_real_with(shards, split, shape, policy, num, NO_CONDITIONS, seed)
    return table


def read_real_with(
    shards: ShardSet, split: str, shape: TableShape, policy: LabelPolicy, num: int, conditions: Conditions,
    seed: int = 0,
) -> tuple[PairTable, Columns]:  # fmt: skip
    """As `read_real`, and the columns of those conditions."""
    available = shards.num_rows(split)
    if num > available:
        raise ShardError(
            f"{num:,} real images are needed; the {split} split of {shards.folder} has {available:,}. Lower "
            "experiment.scale, or ingest more."
        )
    reader = _reader(shards, split, shape, policy, seed, conditions)
    parts: list[HostBatch] = []
    for window in range(reader.order.num_windows):
        parts.append(reader.read(window))
        if sum(map(len, parts)) >= num:
            break
    host = HostBatch.concatenate(parts).rows(0, num)
    return _table(host, shards, shape), _beside_labels(host, shards)


def open_generated(
    dataset: Path, files: Sequence[str], shape: TableShape, cache: Path, rows: NDArray[np.int64] | None = None
) -> PairTable:
    """The pairs of a generated dataset's Parquet `files`, decoded into `cache` where they are not there yet.

    rows: those of the files to decode, ascending; None: all. A cache holds one choice of them.

    Raises ShardError when images have another size than `shape` says, a label has no column, or a file is damaged, and
    StorageError when the disk is full.
    """
    if not cache.is_dir():
        with written_aside(cache, replace=False) as aside:  # another process may have decoded them meanwhile
            aside.mkdir()
            _decode_into(aside, [dataset / name for name in files], shape, rows)
    try:
        return PairTable(*(np.load(cache / name, mmap_mode="r") for name in (_IMAGES, _LABELS, _WORDS)))
    except (OSError, ValueError, EOFError) as error:
        raise ShardError(
            f"The array cache {cache} is damaged ({type(error).__name__}). Delete that folder; it will be rebuilt."
        ) from error


def _reader(
    shards: ShardSet, split: str, shape: TableShape, policy: LabelPolicy, seed: int, conditions: Conditions
) -> WindowReader:
    if shards.info.side_px != shape.side_px:
        raise ShardError(f"{shards.folder} has images of {shards.info.side_px} px, not {shape.side_px}.")
    return open_windows(shards, split, DataConfig(), seed, shape.max_sentences, shape.max_words, policy, conditions)


def _beside_labels(host: HostBatch, shards: ShardSet) -> Columns:
    columns_NC: Columns = host.labels[:, len(shards.info.label_names) :]
    return columns_NC


def _table(host: HostBatch, shards: ShardSet, shape: TableShape) -> PairTable:
    columns = _columns_of(shape.label_names, shards.info.label_names, f"The shards in {shards.folder}")
    labels_NY = np.where(host.known, host.labels[:, : host.known.shape[1]], np.nan).astype(np.float32)[:, columns]
    return PairTable(host.image, labels_NY, host.words)


def _columns_of(wanted: Sequence[str], there: Sequence[str], whose: str) -> list[int]:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise ShardError(f"{whose} have no label {', '.join(missing)}. They have: {', '.join(there)}.")
    return [there.index(name) for name in wanted]


def _decode_into(folder: Path, paths: Sequence[Path], shape: TableShape, rows: NDArray[np.int64] | None) -> None:
    num = sum(_opened(path).metadata.num_rows for path in paths) if rows is None else len(rows)
    images = new_array(folder / _IMAGES, np.uint8, (num, shape.side_px, shape.side_px))
    labels = new_array(folder / _LABELS, np.float32, (num, len(shape.label_names)))
    words = new_array(folder / _WORDS, np.int32, (num, shape.max_sentences, shape.max_words))
    row = first = 0
    with ThreadPoolExecutor(_DECODERS) as pool:  # Pillow decodes without holding the interpreter
        for path in paths:
            for whole in _row_groups(path, shape):
                table = whole if rows is None else whole.take(_of_group(rows, first, whole.num_rows))
                first += whole.num_rows
                if not table.num_rows:
                    continue
                part = slice(row, row + table.num_rows)
                encoded = pc.struct_field(table["image"].combine_chunks(), "bytes").to_pylist()
                for target, image in zip(images[part], pool.map(decode_image, encoded), strict=True):
                    if image is None:
                        raise _damaged(path, f"an image that cannot be decoded as {' or '.join(_FORMATS)}")
                    if image.shape != target.shape:
                        raise ShardError(
                            f"{path} holds images of {image.shape[1]} x {image.shape[0]} px; the real ones have "
                            f"{shape.side_px}. Generate with a model that was trained on these shards."
                        )
                    target[...] = image
                labels[part] = np.stack([table[name].to_numpy() for name in shape.label_names], axis=1)
                sentences = pa.array(
                    [read_written(report) for report in table["report"].to_pylist()], pa.list_(pa.list_(pa.string()))
                )
                words[part] = shape.vocabulary.encode_sentences(sentences, shape.max_sentences, shape.max_words)
                row += table.num_rows
    for array in (images, labels, words):
        array.flush()


def _of_group(rows: NDArray[np.int64], first: int, num_rows: int) -> NDArray[np.int64]:
    """Those of the rows that lie in a group of `num_rows` that begins at row `first`, counted from there."""
    start, stop = np.searchsorted(rows, [first, first + num_rows])
    return rows[start:stop] - first


def read_generated_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Columns of a file of a generated dataset. Raises ShardError when it is damaged or gone."""
    try:
        return pq.read_table(path, columns=list(names))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, type(error).__name__) from error


def _row_groups(path: Path, shape: TableShape) -> Iterator[pa.Table]:
    file = _opened(path)
    _columns_of(shape.label_names, file.schema_arrow.names, f"The pairs in {path}")
    for group in range(file.num_row_groups):
        try:
            yield file.read_row_group(group, columns=["image", "report", *shape.label_names])
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, type(error).__name__) from error


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, type(error).__name__) from error


def _damaged(path: Path, why: str) -> ShardError:
    return ShardError(
        f"{path}, of a generated dataset, is damaged ({why}). Delete it and give the command that made the dataset "
        "(e.g. `emixer generate`) again, which makes what is missing."
    )


def decode_image(encoded: bytes) -> NDArray[np.uint8] | None:
    """Gray values (H, W) of a PNG or JPEG; None: it is neither, damaged, or too large for Pillow."""
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for a damaged file
        return None
