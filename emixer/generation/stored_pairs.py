"""Some pairs of a finished dataset, for pictures.

Shapes: N pairs, H = W side [px], Y labels.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.data.pair_table import decode_image
from emixer.data.parquet_rows import rows_of
from emixer.errors import RunFolderError


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
    return np.concatenate([_labels(_read(dataset / name, label_names), label_names) for name in files])


def read_stored_pairs(
    dataset: Path, files: Sequence[str], label_names: Sequence[str], rows: Sequence[int]
) -> StoredPairs:
    """Those rows of the dataset's `files`, in the order given; rows behind the end are left out.

    Only row groups that hold one of them are read. Raises RunFolderError when a file or an image is damaged.
    """
    paths = [dataset / name for name in files]
    table = rows_of(paths, ["image", "report", *label_names], rows, _damaged)
    images = []
    for place, encoded in enumerate(pc.struct_field(table["image"], "bytes").to_pylist()):
        if (image := decode_image(encoded)) is None:
            raise _damaged(_file_of(paths, rows, place), "an image that cannot be decoded")
        images.append(image)
    reports = tuple(table["report"].fill_null("").to_pylist())
    return StoredPairs(np.stack(images), reports, _labels(table, label_names))


def _read(path: Path, label_names: Sequence[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(label_names))
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, type(error).__name__) from error


def _labels(table: pa.Table, label_names: Sequence[str]) -> NDArray[np.uint8]:
    labels_NY = np.zeros((table.num_rows, len(label_names)), np.uint8)
    for y, name in enumerate(label_names):
        labels_NY[:, y] = table[name].to_numpy() == 1
    return labels_NY


def _file_of(paths: Sequence[Path], rows: Sequence[int], place: int) -> Path:
    """The file of one of the rows that were read, by its place among those."""
    ends: list[int] = []
    for path in paths:
        ends.append(pq.read_metadata(path).num_rows + (ends[-1] if ends else 0))
        if ends[-1] > max(rows):
            break  # what lies behind was not read, and may be damaged itself
    there = [row for row in rows if row < ends[-1]]
    return paths[bisect_right(ends, there[place])]


def _damaged(path: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"{path} cannot be read ({why}). Delete it and run the same `emixer generate` command again to regenerate it."
    )
