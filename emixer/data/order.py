"""In which order training sees the images: a pure function of (seed, position), so that resuming needs one integer.

Row groups are permuted anew each epoch and dealt into windows of about `window_rows` images; the images of a window are
permuted. Windows are numbered through all epochs, and each goes to the worker that has got the fewest images so far.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

_EPOCH, _WINDOW = 0, 1


@dataclass(frozen=True)
class Position:
    """How far a group of workers has read. Each of `num_workers` has taken `rows` images since window `base`."""

    num_workers: int
    base: int = 0
    rows: int = 0

    def advanced(self, rows: int) -> "Position":
        """The position after each worker took `rows` more images."""
        return replace(self, rows=self.rows + rows)


@dataclass(frozen=True)
class DataOrder:
    """The order of one split. group_rows: images in each row group, over all shards in order."""

    group_rows: tuple[int, ...]
    window_rows: int
    seed: int

    @property
    def num_windows(self) -> int:
        """Windows in an epoch."""
        return min(len(self.group_rows), -(-sum(self.group_rows) // self.window_rows))

    def groups_of(self, window: int) -> NDArray[np.int64]:
        """Row groups, by index into `group_rows`, that window number `window` holds."""
        epoch, part = divmod(window, self.num_windows)
        return self._windows(epoch)[part]

    def permutation(self, window: int, num_rows: int) -> NDArray[np.int64]:
        """The order of the images within a window of `num_rows` images."""
        return np.random.default_rng([self.seed, _WINDOW, window]).permutation(num_rows)

    def rows_in(self, window: int) -> int:
        """Images in a window."""
        return int(np.asarray(self.group_rows)[self.groups_of(window)].sum())

    def enough(self, windows: Iterable[int], rows: int) -> Iterator[int]:
        """The first of these windows, until they hold `rows` images."""
        for window in windows:
            if rows <= 0:
                return
            yield window
            rows -= self.rows_in(window)

    def seek(self, position: Position, worker: int) -> tuple[Iterator[int], int]:
        """The windows that `worker` goes on with, without end, and how many images of the first it has taken."""
        left = position.rows
        of_worker = (
            (window, rows)
            for window, whose, rows in self._dealt(position.base, position.num_workers)
            if whose == worker
        )
        for window, rows in of_worker:
            if left < rows:
                return chain([window], (window for window, _ in of_worker)), left
            left -= rows
        raise AssertionError("windows have no end")

    def for_workers(self, position: Position, num_workers: int) -> Position:
        """The same place in the data for another number of workers.

        Windows are not shared between workers, so those begun are given up: at most `position.num_workers` windows
        lose their unread images for this epoch, and no image is read twice.
        """
        if position.num_workers == num_workers or not position.rows:
            return replace(position, num_workers=num_workers)
        last = position.advanced(-1)
        begun = [next(self.seek(last, worker)[0]) for worker in range(position.num_workers)]
        return Position(num_workers, base=max(begun) + 1)

    def epochs(self, position: Position) -> float:
        """Epochs read so far, over all workers."""
        before = position.base / self.num_windows
        return before + position.rows * position.num_workers / sum(self.group_rows)

    def _windows(self, epoch: int) -> list[NDArray[np.int64]]:
        """Row groups of each window of an epoch."""
        order = np.random.default_rng([self.seed, _EPOCH, epoch]).permutation(len(self.group_rows))
        return np.array_split(order, self.num_windows)

    def _dealt(self, base: int, num_workers: int) -> Iterator[tuple[int, int, int]]:
        """Window, worker and images of each window from `base` on, without end.

        Windows differ by a row group, so that workers that took them in turns would drift apart. Where all are alike,
        this is in turns.
        """
        rows = np.asarray(self.group_rows)
        got = [(0, worker) for worker in range(num_workers)]
        first_epoch, first_part = divmod(base, self.num_windows)
        for epoch in count(first_epoch):
            sizes = [int(rows[groups].sum()) for groups in self._windows(epoch)]
            for part in range(first_part if epoch == first_epoch else 0, self.num_windows):
                images, worker = got[0]
                heapq.heapreplace(got, (images + sizes[part], worker))
                yield epoch * self.num_windows + part, worker, sizes[part]
