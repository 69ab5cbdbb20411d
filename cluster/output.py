"""What the processes of a cluster and of jobs print: into logs, on disks that may be full."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def say(text: str) -> None:
    """Prints a line at once, if there is room for it."""
    with expendable(sys.stdout):
        print(text, flush=True)


@contextmanager
def expendable(stream: TextIO) -> Iterator[None]:
    """Writes to a log in the block: a full disk or quota costs their lines, and neither the work nor the exit code.

    What could not be written is dropped: with it still in the buffer, Python would exit with code 120.
    """
    try:
        yield
    except OSError:
        with suppress(OSError):  # not a file
            _drop_unwritten(stream)


def _drop_unwritten(stream: TextIO) -> None:
    descriptor = stream.fileno()
    kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        stream.flush()
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(nowhere)
