"""Data that `emixer audit` compares: all generated, training and held-out images, with their reports and columns.

Shapes: N images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.audit.measured import ImageFile, Measured
from emixer.audit.spans import SENTENCES, read_reports
from emixer.data.pair_table import read_generated_columns
from emixer.data.patients import PATIENT, STUDY, studies_in, subjects_in
from emixer.data.shards import ShardSet

TRAIN = ("train",)
HELD_OUT = ("validate", "test")
Array = NDArray[Any]


@dataclass(frozen=True)
class RealSide:
    """Real images of some splits. Their other columns are never printed."""

    shards: ShardSet
    splits: tuple[str, ...]
    files: tuple[ImageFile, ...]

    @classmethod
    def of(cls, shards: ShardSet, splits: tuple[str, ...], identity: str, kept: Path) -> "RealSide":
        """Images of these splits. identity: of the feature network."""
        side_px = shards.info.side_px
        found = [
            ImageFile.of(shards.folder / file.name, "shard", file.num_rows, side_px, file.sha256, identity, kept)
            for split in splits for file in shards.shard_files if file.split == split and file.num_rows
        ]  # fmt: skip
        return cls(shards, splits, tuple(found))

    def __len__(self) -> int:
        return sum(file.num_rows for file in self.files)

    @property
    def measured(self) -> Measured:
        """Measurements of the images, which must exist."""
        return Measured.open(self.files)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        return pa.chunked_array(
            [c for file in self.files for c in pq.read_table(file.path, columns=[name])[name].chunks]
        )

    def subjects(self) -> NDArray[np.str_]:
        """Subject of each image, with the source, since two sources may use the same ids."""
        return subjects_in(self._columns(PATIENT)).astype(str)

    def studies(self) -> NDArray[np.str_]:
        """Study of each image, with the source."""
        return studies_in(self._columns(STUDY)).astype(str)

    def sentences(self) -> Iterator[tuple[int, pa.Array]]:
        """Reports file by file, preceded by the row of the first."""
        first = 0
        for file in self.files:
            yield first, pq.read_table(file.path, columns=["sentences"])["sentences"].combine_chunks().cast(SENTENCES)
            first += file.num_rows

    def _columns(self, names: Sequence[str]) -> pa.Table:
        return pa.concat_tables(pq.read_table(file.path, columns=list(names)) for file in self.files)


@dataclass(frozen=True)
class GeneratedSide:
    """All pairs of a finished dataset."""

    dataset: Path
    manifest: Mapping[str, Any]
    files: tuple[ImageFile, ...]

    @classmethod
    def of(cls, dataset: Path, manifest: Mapping[str, Any], side_px: int, identity: str, kept: Path) -> "GeneratedSide":
        """Pairs of a dataset. identity: of the feature network."""
        found = [
            ImageFile.of(dataset / file["name"], "dataset", file["rows"], side_px, file["sha256"], identity, kept)
            for file in manifest["files"]
        ]
        return cls(dataset, manifest, tuple(found))

    def __len__(self) -> int:
        return sum(file.num_rows for file in self.files)

    @property
    def measured(self) -> Measured:
        """Measurements of the images, which must exist."""
        return Measured.open(self.files)

    def texts(self) -> Iterator[pa.Array]:
        """Reports, file by file."""
        for file in self.files:
            yield read_generated_columns(file.path, ["report"])["report"].combine_chunks()

    def sentences(self) -> Iterator[pa.Array]:
        """Reports as sentences of tokens, file by file."""
        for texts in self.texts():
            yield read_reports(texts.to_pylist())

    def labels(self, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """Whether each pair was generated with the label (N, Y)."""
        tables = [read_generated_columns(file.path, names) for file in self.files]
        return np.concatenate([np.stack([table[name].to_numpy() == 1 for name in names], 1) for table in tables])

    def index(self) -> NDArray[np.int64]:
        """Index of each row in the dataset."""
        return np.asarray(self.column("index").to_numpy(), np.int64)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        tables = [read_generated_columns(file.path, [name]) for file in self.files]
        return pa.chunked_array([chunk for table in tables for chunk in table[name].chunks])


def codes(*names: NDArray[np.str_]) -> list[NDArray[np.int64]]:
    """Encode names as integers, the same number for the same name in all arrays."""
    _, code = np.unique(np.concatenate(names), return_inverse=True)
    return np.split(code.astype(np.int64), np.cumsum([len(each) for each in names])[:-1])
