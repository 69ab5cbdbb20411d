"""Something done again and again beside a block of code."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(action: Callable[[], float | None], every_s: float) -> Iterator[None]:
    """Calls `action` every so often in a thread of its own for the duration of the block; what it returns, if anything,
    is how long to wait before the next time [s]."""
    stop = threading.Event()

    def go_on() -> None:
        wait_s = every_s
        while not stop.wait(wait_s):
            wait_s = action() or every_s

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
