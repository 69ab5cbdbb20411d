"""Some pairs of a finished dataset, for pictures.

Shapes: N pairs, H = W side [px], Y labels.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from emixer.errors import RunFolderError

_T = TypeVar("_T")


@dataclass(frozen=True)
class StoredPairs:
    """Images, reports and labels of the same rows."""

    images_NHW: NDArray[np.uint8]
    reports: tuple[str, ...]
    labels_NY: NDArray[np.uint8]
    """1 as it was asked for, 0 otherwise."""

    def __len__(self) -> int:
        return len(self.reports)


def read_stored_labels(dataset: Path, files: Sequence[str], label_names: Sequence[str]) -> NDArray[np.uint8]:
    """Labels (N, Y) of all pairs of the dataset's `files`. Raises RunFolderError when a file is damaged."""
    tables = [_read(dataset / name, lambda file: file.read(columns=list(label_names))) for name in files]
    return np.concatenate([_labels(table, label_names) for table in tables])


def read_stored_pairs(
    dataset: Path, files: Sequence[str], label_names: Sequence[str], rows: Sequence[int]
) -> StoredPairs:
    """Those rows of the dataset's `files`, in the order given; rows behind the end are left out.

    Only row groups that hold one of them are read. Raises RunFolderError when a file is damaged.
    """
    columns = ["image", "report", *label_names]
    found: dict[int, dict[str, Any]] = {}
    first = 0
    for name in files:
        if first > max(rows, default=-1):
            break
        read, first = _read(dataset / name, partial(_rows_of, columns=columns, rows=rows, first=first))
        found |= read
    there = [found[row] for row in rows if row in found]
    return StoredPairs(
        np.stack([_decoded(row["image"]["bytes"]) for row in there]), tuple(row["report"] or "" for row in there),
        np.array([[row[name] == 1 for name in label_names] for row in there], np.uint8),
    )  # fmt: skip


def _rows_of(
    file: pq.ParquetFile, columns: list[str], rows: Sequence[int], first: int
) -> tuple[dict[int, dict[str, Any]], int]:
    """Of a file whose first row is the dataset's row `first`: the wanted rows, and the number of the next file's."""
    found: dict[int, dict[str, Any]] = {}
    for group in range(file.num_row_groups):
        end = first + file.metadata.row_group(group).num_rows
        wanted = [row for row in rows if first <= row < end]
        if wanted:
            table = file.read_row_group(group, columns=columns).take([row - first for row in wanted])
            found |= dict(zip(wanted, table.to_pylist(), strict=True))
        first = end
    return found, first


def _read(path: Path, read: Callable[[pq.ParquetFile], _T]) -> _T:
    try:
        with pq.ParquetFile(path) as file:
            return read(file)
    except (OSError, pa.ArrowException) as error:
        raise RunFolderError(
            f"{path} cannot be read ({type(error).__name__}). Delete it and run the same `emixer generate` command "
            "again to regenerate it."
        ) from error


def _labels(table: pa.Table, label_names: Sequence[str]) -> NDArray[np.uint8]:
    return np.stack([table[name].to_numpy() == 1 for name in label_names], axis=1).astype(np.uint8)


def _decoded(encoded: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("L"))
