"""SIGTERM in a process that joins Ray: the stage that it ends exits as docs/cli.md says.

Ray (2.60) replaces the handler of the process that joins by one that exits with code 15, and has C++ print its stack.
Handlers belong to the main thread; in any other there is nothing to do here.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from emixer.errors import StoppedError


def end_process(number: int, frame: FrameType | None) -> NoReturn:
    """Handler that ends this process, Ray and all. No Exception, which a stage may take for the failure of a part."""
    raise SystemExit(128 + number) from StoppedError("Stopped by SIGTERM. Run the same command again to resume.")


@contextmanager
def ends_this_process() -> Iterator[None]:
    """`end_process` is the handler in the block, unless somebody has set another one."""
    if not _is_main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end_process)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def put_back() -> Iterator[None]:
    """Wrap `ray.init`: the handler is afterwards the one from before, which also gets a SIGTERM of meanwhile."""
    handler = signal.getsignal(signal.SIGTERM)
    if not _is_main_thread() or handler is None:  # None: set by C, and only C could put it back
        yield
        return
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGTERM, handler)
        if error.code == signal.SIGTERM:  # of Ray's handler
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
