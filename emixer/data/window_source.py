"""A Ray Data datasource whose blocks are windows, in order. Apart: the loader imports without Ray."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata


class WindowSource(Datasource):  # type: ignore[misc]
    """`windows_per_task` windows a read task, each a chunk of its blocks, of which Ray Data makes as few as it can;
    they keep the order of `windows` when the execution preserves order. A task that reads several goes on with the
    next while Ray hands over the last."""

    def __init__(self, read_block: Callable[[int], pa.Table], windows: Sequence[int], windows_per_task: int) -> None:
        super().__init__()
        self._read_block = read_block
        self._parts = [windows[start : start + windows_per_task] for start in range(0, len(windows), windows_per_task)]

    @property
    def num_tasks(self) -> int:
        """Read tasks that the windows make."""
        return len(self._parts)

    def get_name(self) -> str:
        """Shown in Ray's statistics."""
        return "Windows"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before reading; the number of tasks is given explicitly."""
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        """Always `num_tasks`, whatever the parallelism asked for."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_blocks, self._read_block, part), unknown) for part in self._parts]


def _blocks(read_block: Callable[[int], pa.Table], windows: Sequence[int]) -> Iterator[pa.Table]:
    return map(read_block, windows)
