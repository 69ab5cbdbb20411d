"""Repeat an action in the background while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(action: Callable[[], float | None], every_s: float) -> Iterator[None]:
    """Call `action` every `every_s` seconds in a background thread while the block runs; a number that it returns is
    the wait before the next call [s]."""
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
