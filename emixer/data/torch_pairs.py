"""Pairs for any torch or Ray program: `emixer.open_shards(folder)`, and `Pairs.to_dataset()` of generated ones.

An item is a dictionary that torch's own collate function understands: `image` uint8 (1, H, W), `report` text (empty
where there is none), `labels` float32 (L), 1 present, and `known` bool (L): which of them say anything.

Shapes: N pairs, B pairs of a batch, H = W side [px], L labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from emixer.data.labels import LabelPolicy
from emixer.data.loader import fixed_binary_view, read_labels
from emixer.data.order import DataOrder
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError

if TYPE_CHECKING:
    import ray.data

_COLUMNS = ["image", "report", "labels"]
_GROUPS_IN_MEMORY = 4
"""Row groups that a process keeps for the map-style dataset, whose rows are asked for one by one."""
_WINDOW_ROWS = 4096


class PairItem(TypedDict):
    """One pair, or, with another dimension in front and a list of reports, a batch of them."""

    image: Tensor
    report: Any
    labels: Tensor
    known: Tensor


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

    def batch(self) -> PairItem:
        """All of them as one batch."""
        image_N1HW = torch.from_numpy(self.image_NHW).unsqueeze(1)
        labels, known = torch.from_numpy(self.labels_NL), torch.from_numpy(self.known_NL)
        return PairItem(image=image_N1HW, report=self.reports, labels=labels, known=known)

    def items(self) -> list[PairItem]:
        """One by one, as views of the batch."""
        whole = self.batch()
        columns = zip(whole["image"], self.reports, whole["labels"], whole["known"], strict=True)
        return [PairItem(image=i, report=r, labels=y, known=k) for i, r, y, k in columns]

    @staticmethod
    def concatenate(parts: "Sequence[PairArrays]") -> "PairArrays":
        """One after the other, copied."""
        return PairArrays(
            np.concatenate([part.image_NHW for part in parts]), [text for part in parts for text in part.reports],
            np.concatenate([part.labels_NL for part in parts]), np.concatenate([part.known_NL for part in parts]),
        )  # fmt: skip


class PairDataset(Dataset[PairItem]):
    """Pairs in memory."""

    def __init__(self, pairs: PairArrays) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairItem:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: list[int]) -> list[PairItem]:
        """What torch's loader calls for a whole batch."""
        return self._pairs.take(np.array(indices, np.int64)).items()


@dataclass(frozen=True)
class GroupReader:
    """Reads one row group of a split. Small and picklable: it travels to workers and read tasks."""

    groups: tuple[tuple[Path, int], ...]
    """(file, row group within it)."""
    side_px: int
    label_names: tuple[str, ...]
    policy: LabelPolicy

    def read(self, group: int) -> PairArrays:
        """The pairs of a row group. Raises ShardError when its file has become unreadable."""
        return _read_group(*self.groups[group], self.side_px, self.label_names, self.policy)

    def kept(self, group: int) -> PairArrays:
        """As `read`, from memory where this process read it lately."""
        return _kept_group(*self.groups[group], self.side_px, self.label_names, self.policy)

    def read_block(self, group: int) -> pa.Table:
        """The same as a block of Ray Data."""
        from ray.data.extensions import ArrowTensorArray

        pairs = self.read(group)
        arrays = (pairs.image_NHW, pairs.labels_NL, pairs.known_NL)
        image, labels, known = map(ArrowTensorArray.from_numpy, arrays)
        return pa.table({"image": image, "report": pa.array(pairs.reports), "labels": labels, "known": known})


class ShardPairs(Dataset[PairItem]):
    """A split of finished shards, map-style: any row by its number. Make one with `emixer.open_shards`.

    A batch that a loader asks for reads each of its row groups once; in random order that is a whole row group for a
    row or two, so shuffled training goes through `stream`.
    """

    def __init__(self, reader: GroupReader, group_rows: tuple[int, ...]) -> None:
        self._reader, self._group_rows = reader, group_rows
        self._ends = np.cumsum(group_rows)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> PairItem:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: list[int]) -> list[PairItem]:
        """What torch's loader calls for a whole batch: each row group is read once."""
        index_B = np.array(indices, np.int64)
        group_B = np.searchsorted(self._ends, index_B, side="right")
        items: list[PairItem | None] = [None] * len(indices)
        for group in np.unique(group_B):
            (here,) = np.nonzero(group_B == group)
            first = self._ends[group] - self._group_rows[group]
            found = self._reader.kept(int(group)).take(index_B[here] - first).items()
            for place, item in zip(here, found, strict=True):
                items[place] = item
        return [item for item in items if item is not None]

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the columns of `labels` are."""
        return self._reader.label_names

    @property
    def side_px(self) -> int:
        """Side of the images."""
        return self._reader.side_px

    def stream(
        self, batch_size: int, seed: int | None = None, rank: int | None = None, world_size: int | None = None
    ) -> "ShardStream":
        """An `IterableDataset` of whole batches: `DataLoader(shards.stream(64, seed=0), batch_size=None)`.

        seed: shuffles by windows of about 4,096 rows, differently each epoch; None keeps the order of the shards. rank,
        world_size: which of how many processes this is; None asks torch.distributed. Raises ConfigError for numbers
        that make no sense.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size} leaves nothing to read. Use 1 or more.")
        if (rank is None) != (world_size is None):
            raise ConfigError("rank and world_size go together. Give both, or neither.")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ConfigError(f"rank={rank} is none of {world_size} processes. They count from 0.")
        order = DataOrder(self._group_rows, _WINDOW_ROWS, seed or 0)
        place = _place() if rank is None or world_size is None else (rank, world_size)
        return ShardStream(self._reader, order, batch_size, shuffled=seed is not None, place=place)

    def to_ray(self) -> "ray.data.Dataset":
        """The split as Ray Data, a block a row group: image uint8 (H, W), report, labels, known. All nodes need to see
        the folder."""
        import ray.data

        from emixer.data.window_source import WindowSource

        source = WindowSource(self._reader.read_block, range(len(self._group_rows)), windows_a_task=1)
        return ray.data.read_datasource(source, override_num_blocks=source.num_tasks)


class ShardStream(IterableDataset[PairItem]):
    """Batches of a split, shared out over ranks and loader workers by windows; none is read twice in an epoch.

    Parts may differ by a window, so ranks that must take equally many steps stop at the shortest.
    """

    def __init__(
        self, reader: GroupReader, order: DataOrder, batch_size: int, shuffled: bool, place: tuple[int, int]
    ) -> None:
        self._reader, self._order, self._batch_size = reader, order, batch_size
        self._shuffled, self._place = shuffled, place
        self.epoch = 0
        """Set it before each epoch; other numbers, other orders."""

    def __iter__(self) -> Iterator[PairItem]:
        waiting: list[PairArrays] = []
        num = 0
        for arrays in self._windows():
            waiting.append(arrays)
            num += len(arrays)
            if num >= self._batch_size:
                whole = PairArrays.concatenate(waiting)
                cut = num - num % self._batch_size
                for start in range(0, cut, self._batch_size):
                    yield whole.take(np.arange(start, start + self._batch_size)).batch()
                waiting, num = [whole.take(np.arange(cut, num))], num - cut
        if num:
            yield PairArrays.concatenate(waiting).batch()

    def _windows(self) -> Iterator[PairArrays]:
        """This part's windows; in the order of the shards, its row groups."""
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        rank, world_size = self._place
        part, parts = rank * workers + number, world_size * workers
        if not self._shuffled:
            yield from map(self._reader.read, range(part, len(self._order.group_rows), parts))
            return
        first = self.epoch * self._order.num_windows
        for window in range(first + part, first + self._order.num_windows, parts):
            arrays = PairArrays.concatenate([self._reader.read(int(g)) for g in self._order.groups_of(window)])
            yield arrays.take(self._order.permutation(window, len(arrays)))


def open_shards(
    folder: Path | str,
    split: Literal["train", "validate", "test"] = "train",
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore",
    unmentioned: Literal["ignore", "zeros"] = "zeros",
) -> ShardPairs:
    """A split of what `emixer ingest` wrote, as a torch `Dataset`.

    uncertain, unmentioned: what such a label counts as; `ignore`: `known` is False there.
    Raises ShardError when the folder is not finished, is damaged, or has nothing in the split.
    """
    shards = ShardSet.open(Path(folder))
    groups: list[tuple[Path, int]] = []
    group_rows: list[int] = []
    for file in shards.files(split):
        metadata = pq.read_metadata(file)
        groups += [(file, group) for group in range(metadata.num_row_groups)]
        group_rows += [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    info = shards.info
    policy = LabelPolicy(uncertain, unmentioned)
    return ShardPairs(GroupReader(tuple(groups), info.side_px, info.label_names, policy), tuple(group_rows))


def _read_group(
    path: Path, group: int, side_px: int, label_names: tuple[str, ...], policy: LabelPolicy
) -> PairArrays:  # fmt: skip
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=_COLUMNS, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(
            f"{path} cannot be read any more ({type(error).__name__}). Look whether its disk is there, and run the "
            "same `emixer ingest` command again if the file is damaged."
        ) from error
    image_NHW = fixed_binary_view(table["image"], np.uint8, (side_px, side_px))
    present, _, known = read_labels(table["labels"].combine_chunks(), policy, label_names)
    # The copy is writable, as torch wants it, and lets go of the file's buffer
    return PairArrays(
        image_NHW.copy(), table["report"].fill_null("").to_pylist(), present.astype(np.float32), known
    )  # fmt: skip


_kept_group = lru_cache(maxsize=_GROUPS_IN_MEMORY)(_read_group)


def _place() -> tuple[int, int]:
    """Rank and number of processes, as torch.distributed knows them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
