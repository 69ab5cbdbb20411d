"""Real and generated pairs that a study could show: labels of all, images and reports only of those drawn.

Real reports are tokenized and detokenized like generated ones, so that neither capitals nor typography tell them apart.

Shapes: N candidates, P drawn pairs, Y labels, H = W side [px].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.data.labels import LabelPolicy
from emixer.data.loader import fixed_binary_view, read_labels
from emixer.data.parquet_rows import rows_of
from emixer.data.patients import studies_in, subjects_in
from emixer.data.row_groups import unreadable_shard
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


def real_candidates(
    shards: ShardSet, split: str, names: Sequence[str], policy: LabelPolicy, seed: int
) -> Candidates:  # fmt: skip
    """One random image of each study with labels and a report. names: labels to read, in this order."""
    table = pa.concat_tables([pq.read_table(path, columns=_LABELS) for path in shards.files(split)])
    is_whole = pc.and_(pc.is_valid(table["labels"]), pc.greater(pc.list_value_length(table["sentences"]), 0))
    whole_N = np.flatnonzero(pc.fill_null(is_whole, False).to_numpy(zero_copy_only=False))
    shuffled_N = np.random.default_rng([seed, 0]).permutation(whole_N)
    if not len(shuffled_N):
        return Candidates(np.zeros((0, len(names)), np.uint8), shuffled_N, shuffled_N)
    studies_N = studies_in(table)[shuffled_N]
    rows_N = np.sort(shuffled_N[np.unique(studies_N.astype(str), return_index=True)[1]])
    taken = table.take(pa.array(rows_N)).combine_chunks()
    every_name = shards.info.label_names
    present_NY, _, _ = read_labels(taken["labels"].combine_chunks(), policy, every_name)
    labels_NY = present_NY[:, [every_name.index(name) for name in names]]
    subject_N = np.unique(subjects_in(taken).astype(str), return_inverse=True)[1].astype(np.int64)
    return Candidates(labels_NY, rows_N, subject_N, tuple(sorted(pc.unique(taken["source"]).to_pylist())))


def generated_candidates(dataset: Path, files: Sequence[str], names: Sequence[str]) -> Candidates:
    """Every pair of a finished dataset. Raises RunFolderError when a file is damaged."""
    labels_NY = read_stored_labels(dataset, files, names)
    rows_N = np.arange(len(labels_NY))
    return Candidates(labels_NY, rows_N, rows_N)


def read_real(shards: ShardSet, split: str, rows: Sequence[int]) -> DrawnPairs:
    """Read rows of a split, in the given order. Raises ShardError when a file is damaged."""
    table = rows_of(shards.files(split), ["image", "sentences"], rows, unreadable_shard)
    side_px = shards.info.side_px
    images_PHW = fixed_binary_view(table["image"], np.uint8, (side_px, side_px))
    return DrawnPairs(images_PHW, tuple(map(detokenize, table["sentences"].to_pylist())))


def read_generated(dataset: Path, files: Sequence[str], rows: Sequence[int]) -> DrawnPairs:
    """Read rows of a dataset, in the given order. Raises RunFolderError when a file is damaged."""
    stored = read_stored_pairs(dataset, files, [], rows)
    return DrawnPairs(stored.images_NHW, tuple(detokenize(tokenize(report)) for report in stored.reports))
