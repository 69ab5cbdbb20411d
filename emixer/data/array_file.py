"""Arrays in files of their own, which are mapped into memory: more than fits, and shared by processes."""

import os
from pathlib import Path
from typing import Any

import numpy as np


def new_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """A writable memory map of a new `.npy` file. Raises OSError when the disk has no room for all of it."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:  # a full disk is an error here, and would end the process where pages are written
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
