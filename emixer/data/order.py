"""In which order training sees the images: a pure function of (seed, position), so that resuming needs one integer.

Row groups are permuted anew each epoch and dealt into windows of about `window_rows` images; the images of a window are
permuted. Windows are numbered through all epochs; worker r of n reads windows base + r, base + r + n, ...
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count

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
        order = np.random.default_rng([self.seed, _EPOCH, epoch]).permutation(len(self.group_rows))
        return np.asarray(np.array_split(order, self.num_windows)[part], dtype=np.int64)

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

    def seek(self, position: Position, worker: int) -> tuple[int, int]:
        """(window, images of it already taken) that `worker` goes on with."""
        window, left = position.base + worker, position.rows
        while left >= (rows := self.rows_in(window)):
            left -= rows
            window += position.num_workers
        return window, left

    def for_workers(self, position: Position, num_workers: int) -> Position:
        """The same place in the data for another number of workers.

        Windows are not shared between workers, so those begun are given up: at most `position.num_workers` windows
        lose their unread images for this epoch, and no image is read twice.
        """
        if position.num_workers == num_workers:
            return position
        reached = [self.seek(position, worker) for worker in range(position.num_workers)]
        begun = [window + (taken > 0) for window, taken in reached]
        return Position(num_workers, base=max(begun))

    def epochs(self, position: Position) -> float:
        """Epochs read so far, over all workers."""
        before = position.base / self.num_windows
        return before + position.rows * position.num_workers / sum(self.group_rows)


def windows_from(first: int, step: int) -> Iterator[int]:
    """first, first + step, ... without end."""
    return count(first, step)
