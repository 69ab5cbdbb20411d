"""Small files of a cluster's folder: whole or not at all, for the owner's eyes only from their first byte."""

import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from cluster.output import say

CONFIG_NAME = "cluster.json"
"""The config that a cluster was started with, in its own folder."""
STOP_NAME = "stop"
"""Beside it: tells the head to stop."""
AUTOSCALING_NAME = "autoscaling.yaml"
"""Config of Ray's autoscaler, read again at each update."""
HEAD_LOCK_NAME = "head.lock"
"""Held by the head for as long as it lives: it is announced only once Ray is up, half a minute after its start."""
_FRESH_S = 1.0
_LOCK_POLL_S = 0.2


class FreshView:
    """Of a folder into which other machines put files: NFS remembers for a minute that a file was not there."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._refresh_at = folder, 0.0

    def refresh(self) -> None:
        """Makes NFS look for missing files again, by reading the folder; at most once a second."""
        now = time.monotonic()
        if now < self._refresh_at:
            return
        self._refresh_at = now + _FRESH_S
        with suppress(OSError), os.scandir(self._folder) as entries:
            for _ in entries:
                pass


def write_private(path: Path, text: str) -> None:
    """Writes aside and renames; mode 0600."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """The same for an object."""
    write_private(path, json.dumps(content, indent=1))


def read_json(path: Path) -> dict[str, Any]:
    """The object; empty if there is none, or it is damaged. Raises OSError when that cannot be known."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def lock(path: Path, wait_s: float = 0.0) -> TextIO:
    """The file, locked until it is closed or this process ends, however it ends. Tries for `wait_s`.

    Raises BlockingIOError when another process, on any machine, holds it. Where the file system has no locks, it only
    says so.
    """
    file, end = path.open("a"), time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                file.close()
                raise
            time.sleep(_LOCK_POLL_S)
            continue
        except OSError as error:
            say(f"{path} cannot be locked ({error.strerror}): see that only one process uses its folder.")
        return file


def is_locked(path: Path) -> bool:
    """Whether a process holds it by `lock`; False where that cannot be known."""
    try:
        with path.open() as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
