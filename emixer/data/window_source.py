"""A Ray Data datasource whose read task i yields window i as one block. Apart: the loader imports without Ray."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata


class WindowSource(Datasource):  # type: ignore[misc]
    """One read task a window; blocks keep the order of `windows` when the execution preserves order."""

    def __init__(self, read_block: Callable[[int], pa.Table], windows: Sequence[int]) -> None:
        super().__init__()
        self._read_block = read_block
        self._windows = windows

    def get_name(self) -> str:
        """Shown in Ray's statistics."""
        return "Windows"

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown before reading; the number of blocks is given explicitly."""
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        """One task a window, whatever the parallelism asked for."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_blocks, self._read_block, window), unknown) for window in self._windows]


def _blocks(read_block: Callable[[int], pa.Table], window: int) -> list[pa.Table]:
    return [read_block(window)]
