"""Pairs for any torch or Ray program: `emixer.open_shards(folder)`, and `Pairs.to_dataset()` of generated ones.

An item is a dictionary that torch's own collate function understands: `image` uint8 (1, H, W), `report` text (empty
where there is none), `labels` float32 (L), 1 present, and `known` bool (L): which of them say anything.

Shapes: N pairs, B pairs of a batch, H = W side [px], L labels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from emixer.data.labels import LabelPolicy
from emixer.data.order import DataOrder
from emixer.data.row_groups import GroupReader, PairArrays
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError

if TYPE_CHECKING:
    import ray.data

_WINDOW_ROWS = 4096


class PairItem(TypedDict):
    """One pair, or, with another dimension in front and a list of reports, a batch of them."""

    image: Tensor
    report: Any
    labels: Tensor
    known: Tensor


def batch_of(pairs: PairArrays) -> PairItem:
    """All of them as one batch, without a copy."""
    image_N1HW = torch.from_numpy(pairs.image_NHW).unsqueeze(1)
    labels, known = torch.from_numpy(pairs.labels_NL), torch.from_numpy(pairs.known_NL)
    return PairItem(image=image_N1HW, report=pairs.reports, labels=labels, known=known)


def items_of(pairs: PairArrays) -> list[PairItem]:
    """One by one, as views of the batch: torch's collate function takes no batch that is made already."""
    whole = batch_of(pairs)
    columns = zip(whole["image"], pairs.reports, whole["labels"], whole["known"], strict=True)
    return [PairItem(image=i, report=r, labels=y, known=k) for i, r, y, k in columns]


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
        return items_of(self._pairs.take(np.array(indices, np.int64)))


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
            found = items_of(self._reader.kept(int(group)).take(index_B[here] - first))
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
        self,
        batch_size: int,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        window_rows: int = _WINDOW_ROWS,
    ) -> "ShardStream":
        """An `IterableDataset` of whole batches: `DataLoader(shards.stream(64, seed=0), batch_size=None)`.

        seed: shuffles within windows of random row groups, about `window_rows` rows each, differently each epoch; None
        keeps the order of the shards. rank, world_size: which of how many processes this is; None asks
        torch.distributed. Raises ConfigError for numbers that make no sense, and for more processes than there is to
        share out.
        """
        if min(batch_size, window_rows) < 1:
            raise ConfigError(f"batch_size={batch_size} and window_rows={window_rows} have to be 1 or more.")
        if (rank is None) != (world_size is None):
            raise ConfigError("rank and world_size go together. Give both, or neither.")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ConfigError(f"rank={rank} is none of {world_size} processes. They count from 0.")
        order = DataOrder(self._group_rows, window_rows, seed or 0)
        place = _place() if rank is None or world_size is None else (rank, world_size)
        parts = len(self._group_rows) if seed is None else order.num_windows
        if place[1] > parts:
            what = "row group(s)" if seed is None else "window(s)"
            raise ConfigError(
                f"{place[1]} processes cannot share {len(self):,} rows in {parts} {what}: some would get none. Use "
                "fewer processes or a smaller window_rows, or ingest with a smaller ingest.row_group_bytes."
            )
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
        size = self._batch_size
        waiting: list[PairArrays] = []  # parts of the batch that straddles windows, the only one that is copied
        num_waiting = 0
        for arrays in self._windows():
            first = min(size - num_waiting, len(arrays)) if waiting else 0
            if first:
                waiting.append(arrays.rows(0, first))
                num_waiting += first
                if num_waiting < size:
                    continue
                yield batch_of(PairArrays.concatenate(waiting))
            end = len(arrays) - (len(arrays) - first) % size
            for start in range(first, end, size):
                yield batch_of(arrays.rows(start, size))
            num_waiting = len(arrays) - end
            waiting = [arrays.rows(end, num_waiting)] if num_waiting else []
        if waiting:
            yield batch_of(PairArrays.concatenate(waiting))

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
            permutation = self._order.permutation(window, self._order.rows_in(window))
            yield self._reader.read_in_order(self._order.groups_of(window).tolist(), permutation)


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


def _place() -> tuple[int, int]:
    """Rank and number of processes, as torch.distributed knows them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
