"""A split of shards as a stream of whole batches that resumes where it stopped.

Shapes: B pairs of a batch, H = W side [px], L labels.
"""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from emixer.data.order import DataOrder
from emixer.data.pair_items import PairItem, batch_of
from emixer.data.row_groups import GroupReader, PairArrays
from emixer.errors import ConfigError


class ShardStream(IterableDataset[PairItem]):
    """Batches of a split, shared out over ranks and loader workers by windows; none is read twice in an epoch.

    Parts may differ by a window, so ranks that must take equally many steps stop at the shortest. `state_dict` and
    `load_state_dict` resume an epoch with the batch after the last one given; torchdata's `StatefulDataLoader` calls
    them in each of its workers.
    """

    def __init__(
        self, reader: GroupReader, order: DataOrder, batch_size: int, shuffled: bool, place: tuple[int, int]
    ) -> None:
        self._reader, self._order, self._batch_size = reader, order, batch_size
        self._shuffled, self._place = shuffled, place
        self._epoch, self._given, self._resume_after = 0, 0, 0
        self._resumed: dict[str, Any] = {}

    @property
    def epoch(self) -> int:
        """Set it before each epoch; other numbers, other orders. Another number begins at its first batch."""
        return self._epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        if number != self._epoch:  # the same one keeps the position: a loop that resumes sets it again
            self._given = self._resume_after = 0
        self._epoch = number

    def state_dict(self) -> dict[str, Any]:
        """Where this part of the epoch is: after so many of its batches."""
        return {"epoch": self.epoch, "batches": self._given, "stream": self._described()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iteration begin after the batches of `state`; the one after it is a whole epoch again.

        Raises ConfigError when `state` is of a stream of other data, settings or share; so does that iteration, in a
        loader with other workers.
        """
        self._require_same(state["stream"])
        self.epoch = state["epoch"]
        self._given = self._resume_after = state["batches"]
        self._resumed = dict(state["stream"])

    def _require_same(self, other: dict[str, Any]) -> None:
        own = self._described()
        differing = [
            f"{name} {other.get(name)} there, {value} here" for name, value in own.items() if other.get(name) != value
        ]
        if differing:
            raise ConfigError(
                f"This position is of another stream: {'; '.join(differing)}. Resume with the same shards, settings, "
                "processes and loader workers, or begin the epoch anew."
            )

    def __iter__(self) -> Iterator[PairItem]:
        if self._resume_after:
            self._require_same(self._resumed)  # only here does a stream that was resumed elsewhere know its worker
        self._given, self._resume_after = self._resume_after, 0
        for batch in self._batches(self._given * self._batch_size):
            self._given += 1  # before it is given: who asks for the state next has it
            yield batch

    def _batches(self, first_row: int) -> Iterator[PairItem]:
        size = self._batch_size
        waiting: list[PairArrays] = []  # parts of the batch that straddles windows, the only one that is copied
        num_waiting = 0
        for arrays in self._windows(first_row):
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

    def _windows(self, first_row: int) -> Iterator[PairArrays]:
        """This part's windows from its row `first_row` on; in the order of the shards, its row groups."""
        part, parts = self._part()
        first, num = self._epoch_windows()
        skipped = 0
        for window in range(first + part, first + num, parts):
            num_rows = self._rows_in(window)
            start = min(max(first_row - skipped, 0), num_rows)
            skipped += num_rows
            if start < num_rows:
                arrays = self._read(window)
                yield arrays.rows(start, num_rows - start) if start else arrays

    def _epoch_windows(self) -> tuple[int, int]:
        """The first window of the epoch and their number."""
        if not self._shuffled:
            return 0, len(self._order.group_rows)
        return self.epoch * self._order.num_windows, self._order.num_windows

    def _rows_in(self, window: int) -> int:
        return self._order.rows_in(window) if self._shuffled else self._order.group_rows[window]

    def _read(self, window: int) -> PairArrays:
        if not self._shuffled:
            return self._reader.read(window)
        permutation = self._order.permutation(window, self._order.rows_in(window))
        return self._reader.read_in_order(self._order.groups_of(window).tolist(), permutation)

    def _part(self) -> tuple[int, int]:
        """Which of how many parts of the windows this process gives."""
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        rank, world_size = self._place
        return rank * workers + number, world_size * workers

    def _described(self) -> dict[str, Any]:
        """What a position depends on, as JSON has it."""
        part, parts = self._part()
        return {
            "rows": sum(self._order.group_rows),
            "row_groups": len(self._order.group_rows),
            "batch_size": self._batch_size,
            "seed": self._order.seed if self._shuffled else None,
            "window_rows": self._order.window_rows if self._shuffled else None,
            "part": part,
            "parts": parts,
        }
