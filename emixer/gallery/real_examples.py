"""Real pairs to show beside generated ones: a few varied held-out rows, without their ids.

Shapes: N rows, Y labels, H = W side [px].
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.data.labels import LabelPolicy
from emixer.data.loader import fixed_binary_view, read_labels
from emixer.data.shards import ShardSet
from emixer.errors import ShardError

_CANDIDATES = 2000
_COLUMNS = ["image", "report", "labels"]


@dataclass(frozen=True)
class RealExamples:
    """Images, reports and labels of the same rows."""

    images_NHW: NDArray[np.uint8]
    reports: tuple[str, ...]
    labels_NY: NDArray[np.uint8]
    """1 present, 0 absent or unknown."""


def read_real_examples(shards: ShardSet, split: str, num: int, policy: LabelPolicy, remedy: str) -> RealExamples:
    """Read up to `num` labelled rows of a split that cover each label of its first rows; always the same ones.

    remedy: what to do about a split without labels, for the user of the command. Raises ShardError for such a split,
    and for an empty one.
    """
    table = _candidates(shards, split)
    if not table.num_rows:
        raise ShardError(
            f"No image in the {split} split of {shards.folder} has labels, so no generated pair can go with one. "
            f"{remedy}"
        )
    labels_NY, _, _ = read_labels(table["labels"].combine_chunks(), policy, shards.info.label_names)
    rows = _varied(labels_NY, num)
    side_px = shards.info.side_px
    table = table.take(pa.array(rows)).combine_chunks()
    return RealExamples(
        images_NHW=fixed_binary_view(table["image"], np.uint8, (side_px, side_px)).copy(),
        reports=tuple(report or "" for report in table["report"].to_pylist()),
        labels_NY=labels_NY[rows],
    )


def _candidates(shards: ShardSet, split: str) -> pa.Table:
    tables, num_rows = [], 0
    for path in shards.files(split):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=_COLUMNS)
            tables.append(table.filter(pc.is_valid(table["labels"])))
            num_rows += tables[-1].num_rows
            if num_rows >= _CANDIDATES:
                return pa.concat_tables(tables)
    return pa.concat_tables(tables)


def _varied(labels_NY: NDArray[np.uint8], num: int) -> NDArray[np.int64]:
    """Rows that cover every label, rare ones first, then evenly spaced rows; sorted."""
    chosen: list[int] = []
    counts_Y = labels_NY.sum(0)
    for label in np.argsort(counts_Y, kind="stable"):
        carriers = np.flatnonzero(labels_NY[:, label])
        if len(carriers) and not labels_NY[chosen, label].any():
            chosen.append(int(carriers[0]))
    rest = np.setdiff1d(np.arange(len(labels_NY)), chosen)
    wanted = max(0, min(num - len(chosen), len(rest)))
    even = rest[(np.arange(wanted) * len(rest)) // wanted] if wanted else rest[:0]
    return np.sort(np.concatenate([chosen[:num], even]).astype(np.int64))
