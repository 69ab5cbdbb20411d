"""Places that may not be read, for tests that anybody may run, root included."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody may read; what pytest makes is closed to others anyway."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Let nobody read `path` during the block, in which root is somebody else."""
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    os.seteuid(user or 1)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)
