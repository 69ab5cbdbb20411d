"""Real and generated pairs that a study could show: labels of all, images and reports only of those drawn.

Real reports are tokenized and detokenized like generated ones, so that neither capitals nor typography tell them apart.

Shapes: N candidates, P drawn pairs, Y labels, H = W side [px].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.data.labels import LabelPolicy
from emixer.data.loader import fixed_binary_view
from emixer.data.shards import ShardSet
from emixer.data.text import detokenize, tokenize
from emixer.generation.stored_pairs import read_stored_labels, read_stored_pairs

_LABELS = ["labels", "study_id", "subject_id", "sentences", "source"]


@dataclass(frozen=True)
class Candidates:
    """Candidates of one side."""

    labels_NY: NDArray[np.uint8]
    """1 present."""
    rows_N: NDArray[np.int64]
    """Row of each in the split, or in the dataset."""
    subject_N: NDArray[np.int64]
    """Subject number: equal for real pairs of one person, distinct for every generated pair."""
    sources: tuple[str, ...] = ()
    """Source collections of real candidates."""

    def __len__(self) -> int:
        return len(self.rows_N)


@dataclass(frozen=True)
class DrawnPairs:
    """Images and reports of drawn candidates, in their order."""

    images_PHW: NDArray[np.uint8]
    reports: tuple[str, ...]


def real_candidates(shards: ShardSet, split: str, names: Sequence[str], uncertain_is: int, seed: int) -> Candidates:
    """One random image of each study with labels and a report. names: labels to read, in this order."""
    table = pa.concat_tables([pq.read_table(path, columns=_LABELS) for path in shards.files(split)])
    is_whole = pc.and_(pc.is_valid(table["labels"]), pc.greater(pc.list_value_length(table["sentences"]), 0))
    whole_N = np.flatnonzero(pc.fill_null(is_whole, False).to_numpy(zero_copy_only=False))
    shuffled_N = np.random.default_rng([seed, 0]).permutation(whole_N)
    if not len(shuffled_N):
        return Candidates(np.zeros((0, len(names)), np.uint8), shuffled_N, shuffled_N)
    of_source = pc.binary_join_element_wise(table["source"], table["study_id"], "/")
    studies_N = of_source.take(pa.array(shuffled_N)).to_numpy(zero_copy_only=False)
    rows_N = np.sort(shuffled_N[np.unique(studies_N.astype(str), return_index=True)[1]])
    taken = table.take(pa.array(rows_N)).combine_chunks()
    of_source = pc.binary_join_element_wise(taken["source"], taken["subject_id"], "/")
    subjects_N = of_source.to_numpy(zero_copy_only=False).astype(str)
    columns = [shards.info.label_names.index(name) for name in names]
    labels_NY = _present(taken["labels"], len(shards.info.label_names), uncertain_is)[:, columns]
    subject_N = np.unique(subjects_N, return_inverse=True)[1].astype(np.int64)
    return Candidates(labels_NY, rows_N, subject_N, tuple(sorted(pc.unique(taken["source"]).to_pylist())))


def generated_candidates(dataset: Path, files: Sequence[str], names: Sequence[str]) -> Candidates:
    """Every pair of a finished dataset. Raises RunFolderError when a file is damaged."""
    labels_NY = read_stored_labels(dataset, files, names)
    rows_N = np.arange(len(labels_NY))
    return Candidates(labels_NY, rows_N, rows_N)


def read_real(shards: ShardSet, split: str, rows: Sequence[int]) -> DrawnPairs:
    """Read rows of a split, in the given order, from the row groups that contain them."""
    found: dict[int, dict[str, Any]] = {}
    first = 0
    for path in shards.files(split):
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            for group, (start, end) in enumerate(zip(*_bounds(first, sizes), strict=True)):
                wanted = [row for row in rows if start <= row < end]
                if wanted:
                    table = file.read_row_group(group, columns=["image", "sentences"])
                    found |= _decoded(table.take([row - start for row in wanted]), wanted, shards.info.side_px)
        first += sum(sizes)
    return DrawnPairs(
        np.stack([found[row]["image"] for row in rows]), tuple(found[row]["report"] for row in rows)
    )  # fmt: skip


def read_generated(dataset: Path, files: Sequence[str], rows: Sequence[int]) -> DrawnPairs:
    """Read rows of a dataset, in the given order. Raises RunFolderError when a file is damaged."""
    stored = read_stored_pairs(dataset, files, [], rows)
    return DrawnPairs(stored.images_NHW, tuple(detokenize(tokenize(report)) for report in stored.reports))


def _bounds(first: int, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """First row of each row group, and the row after its last."""
    edges = list(accumulate(sizes, initial=first))
    return edges[:-1], edges[1:]


def _decoded(table: pa.Table, rows: Sequence[int], side_px: int) -> dict[int, dict[str, Any]]:
    images = fixed_binary_view(table.combine_chunks()["image"], np.uint8, (side_px, side_px))
    reports = map(detokenize, table["sentences"].to_pylist())
    return {
        row: {"image": image.copy(), "report": report} for row, image, report in zip(rows, images, reports, strict=True)
    }


def _present(labels: pa.ChunkedArray, num_labels: int, uncertain_is: int) -> NDArray[np.uint8]:
    flat = labels.combine_chunks().flatten()
    values_NY = pc.fill_null(flat, 0).to_numpy(zero_copy_only=False).reshape(-1, num_labels).astype(np.int8)
    mentioned_NY = pc.is_valid(flat).to_numpy(zero_copy_only=False).reshape(-1, num_labels)
    policy = LabelPolicy("ones" if uncertain_is else "zeros", "zeros")
    return policy.resolve(values_NY, mentioned_NY, ())[0]
