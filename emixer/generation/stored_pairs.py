"""The first pairs of a finished dataset, for pictures.

Shapes: N pairs, H = W side [px], Y labels.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from emixer.errors import RunFolderError


@dataclass(frozen=True)
class StoredPairs:
    """Films, reports and labels of the same rows."""

    images_NHW: NDArray[np.uint8]
    reports: tuple[str, ...]
    labels_NY: NDArray[np.uint8]
    """1 as it was asked for, 0 otherwise."""

    def __len__(self) -> int:
        return len(self.reports)


def read_stored_pairs(dataset: Path, files: Sequence[str], label_names: Sequence[str], num: int) -> StoredPairs:
    """Up to `num` pairs of the dataset's `files`, in their order. Raises RunFolderError when a file is damaged."""
    table = _first_rows([dataset / name for name in files], ["image", "report", *label_names], num)
    films = [_decoded(row["bytes"]) for row in table["image"].to_pylist()]
    labels_NY = np.stack([table[name].to_numpy() == 1 for name in label_names], axis=1).astype(np.uint8)
    return StoredPairs(np.stack(films), tuple(report or "" for report in table["report"].to_pylist()), labels_NY)


def _first_rows(paths: Sequence[Path], columns: list[str], num: int) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    left = num
    for path in paths:
        try:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=num, columns=columns):
                batches.append(batch.slice(0, left))
                left -= len(batches[-1])
                if not left:
                    return pa.Table.from_batches(batches)
        except (OSError, pa.ArrowInvalid) as error:
            raise RunFolderError(
                f"{path} cannot be read ({type(error).__name__}). Delete it and give the same `emixer generate` "
                "command again, which makes what is missing."
            ) from error
    return pa.Table.from_batches(batches)


def _decoded(encoded: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(encoded)) as film:
        return np.asarray(film.convert("L"))
