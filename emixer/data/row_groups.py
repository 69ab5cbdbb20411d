"""Row groups of shards as arrays, with reports as text: what torch datasets and Ray Data of shards read. No torch.

Shapes: N pairs, B of them, H = W side [px], L labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.data.labels import LabelPolicy
from emixer.data.loader import fixed_binary_view, read_labels
from emixer.errors import ShardError

_COLUMNS = ["image", "report", "labels"]
_LABELS = ("labels_NL", "known_NL")
_GROUPS_IN_MEMORY = 4
"""Row groups that a process keeps for whoever asks for rows one by one."""


@dataclass(frozen=True)
class PairArrays:
    """Pairs of the same size."""

    image_NHW: NDArray[np.uint8]
    reports: list[str]
    labels_NL: NDArray[np.float32]
    known_NL: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.reports)

    def take(self, rows_B: NDArray[np.int64]) -> "PairArrays":
        """Copies of those pairs, in that order."""
        reports = [self.reports[row] for row in rows_B]
        return PairArrays(self.image_NHW[rows_B], reports, self.labels_NL[rows_B], self.known_NL[rows_B])

    def rows(self, first: int, num: int) -> "PairArrays":
        """A view of `num` pairs from `first` on."""
        part = slice(first, first + num)
        return PairArrays(self.image_NHW[part], self.reports[part], self.labels_NL[part], self.known_NL[part])

    @staticmethod
    def concatenate(parts: "Sequence[PairArrays]") -> "PairArrays":
        """One after the other, copied unless there is only one."""
        if len(parts) == 1:
            return parts[0]
        return PairArrays(
            np.concatenate([part.image_NHW for part in parts]), [text for part in parts for text in part.reports],
            np.concatenate([part.labels_NL for part in parts]), np.concatenate([part.known_NL for part in parts]),
        )  # fmt: skip


@dataclass(frozen=True)
class GroupReader:
    """Reads one row group of a split. Small and picklable: it travels to workers and read tasks."""

    groups: tuple[tuple[Path, int], ...]
    """(file, row group within it)."""
    side_px: int
    label_names: tuple[str, ...]
    policy: LabelPolicy
    digest: str
    """Of the split's shards: others may come to the same paths."""

    def read(self, group: int) -> PairArrays:
        """The pairs of a row group. Raises ShardError when its file has become unreadable."""
        return _read_group(*self.groups[group], self.side_px, self.label_names, self.policy)

    def read_in_order(self, groups: Sequence[int], order_N: NDArray[np.int64]) -> PairArrays:
        """The pairs of several row groups, of which number order_N[i] comes i-th. Pixels are copied once.

        Raises ShardError when a file has become unreadable.
        """
        place_N = np.argsort(order_N)
        image_NHW = np.empty((len(order_N), self.side_px, self.side_px), np.uint8)
        parts: list[PairArrays] = []
        first = 0
        for group in groups:
            part = _view_of_group(*self.groups[group], self.side_px, self.label_names, self.policy)
            image_NHW[place_N[first : first + len(part)]] = part.image_NHW
            first += len(part)
            parts.append(replace(part, image_NHW=part.image_NHW[:0]))  # the pixels' buffer may go
        reports = [text for part in parts for text in part.reports]
        labels_NL, known_NL = (np.concatenate([getattr(part, name) for part in parts])[order_N] for name in _LABELS)
        return PairArrays(image_NHW, [reports[row] for row in order_N], labels_NL, known_NL)

    def kept(self, group: int) -> PairArrays:
        """As `read`, from memory where this process read it lately."""
        return _kept_group(self.digest, *self.groups[group], self.side_px, self.label_names, self.policy)

    def read_block(self, group: int) -> pa.Table:
        """The same as a block of Ray Data."""
        from ray.data.extensions import ArrowTensorArray

        pairs = self.read(group)
        arrays = (pairs.image_NHW, pairs.labels_NL, pairs.known_NL)
        image, labels, known = map(ArrowTensorArray.from_numpy, arrays)
        return pa.table({"image": image, "report": pa.array(pairs.reports), "labels": labels, "known": known})


def unreadable_shard(path: Path, why: str) -> ShardError:
    """The error for a shard that could be opened, and of which rows cannot be read."""
    return ShardError(
        f"{path} cannot be read any more ({why}). Look whether its disk is there, and run the same `emixer ingest` "
        "command again if the file is damaged."
    )


def _read_group(
    path: Path, group: int, side_px: int, label_names: tuple[str, ...], policy: LabelPolicy
) -> PairArrays:  # fmt: skip
    """With pixels of its own: writable, as torch wants them, and without the file's buffer."""
    pairs = _view_of_group(path, group, side_px, label_names, policy)
    return replace(pairs, image_NHW=pairs.image_NHW.copy())


def _view_of_group(
    path: Path, group: int, side_px: int, label_names: tuple[str, ...], policy: LabelPolicy
) -> PairArrays:  # fmt: skip
    """Its pixels are those of the file's buffer, and read-only."""
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=_COLUMNS, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise unreadable_shard(path, type(error).__name__) from error
    image_NHW = fixed_binary_view(table["image"], np.uint8, (side_px, side_px))
    present, _, known = read_labels(table["labels"].combine_chunks(), policy, label_names)
    return PairArrays(image_NHW, table["report"].fill_null("").to_pylist(), present.astype(np.float32), known)


@lru_cache(maxsize=_GROUPS_IN_MEMORY)
def _kept_group(
    digest: str, path: Path, group: int, side_px: int, label_names: tuple[str, ...], policy: LabelPolicy
) -> PairArrays:  # fmt: skip
    """digest: tells the shards apart that were at this path one after the other."""
    return _read_group(path, group, side_px, label_names, policy)
