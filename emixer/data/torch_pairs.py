"""Shards for any torch or Ray program: `emixer.open_shards(folder)`.

Shapes: B pairs of a batch, H = W side [px].
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from emixer.config.base import absolute
from emixer.data.labels import LabelPolicy, Uncertain, Unmentioned
from emixer.data.order import DataOrder
from emixer.data.pair_items import PairItem, items_of
from emixer.data.row_groups import GroupReader
from emixer.data.shard_stream import ShardStream
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError

if TYPE_CHECKING:
    import ray.data

_WINDOW_ROWS = 4096


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
    ) -> ShardStream:
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

        source = WindowSource(self._reader.read_block, range(len(self._group_rows)), windows_per_task=1)
        return ray.data.read_datasource(source, override_num_blocks=source.num_tasks)


def open_shards(
    folder: Path | str,
    split: Literal["train", "validate", "test"] = "train",
    uncertain: Literal["ignore", "zeros", "ones"] = "ignore",
    unmentioned: Literal["ignore", "zeros"] = "zeros",
) -> ShardPairs:
    """A split of what `emixer ingest` wrote, as a torch `Dataset`.

    uncertain, unmentioned: what such a label counts as; `ignore`: `known` is False there.
    Raises ConfigError for another policy, ShardError when the folder is not finished, is damaged, or has nothing in the
    split.
    """
    for name, value, kind in (("uncertain", uncertain, Uncertain), ("unmentioned", unmentioned, Unmentioned)):
        if value not in get_args(kind):
            raise ConfigError(f"{name}={value!r} is not a policy. Choose from: {', '.join(get_args(kind))}.")
    shards = ShardSet.open(absolute(Path(folder)))
    groups: list[tuple[Path, int]] = []
    group_rows: list[int] = []
    for file in shards.files(split):
        metadata = pq.read_metadata(file)
        groups += [(file, group) for group in range(metadata.num_row_groups)]
        group_rows += [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    info = shards.info
    policy = LabelPolicy(uncertain, unmentioned)
    reader = GroupReader(tuple(groups), info.side_px, info.label_names, policy, shards.digest((split,)))
    return ShardPairs(reader, tuple(group_rows))


def _place() -> tuple[int, int]:
    """Rank and number of processes, as torch.distributed knows them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
