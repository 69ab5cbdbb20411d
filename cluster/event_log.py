"""Recent events of the cluster, one per line, for `status` and later inspection. Several processes write."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

_NAME = "events.jsonl"
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Entry:
    """One event."""

    at: float
    """Seconds since the epoch."""
    what: str
    """asked, released, refused, gave up, draining, left, ending, head up, head down."""
    node_type: str
    detail: str


class EventLog:
    """In a cluster's folder."""

    def __init__(self, home: Path) -> None:
        self._path = home / _NAME

    def note(self, what: str, node_type: str = "", detail: str = "") -> None:
        """Adds a line; a disk that is full or gone must not stop the cluster."""
        line = json.dumps({"at": time.time(), "what": what, "node_type": node_type, "detail": detail})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError:
            return

    def last(self, count: int) -> list[Entry]:
        """The newest entries, oldest first."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                found.append(Entry(**json.loads(line)))
            except (ValueError, TypeError):
                continue  # the cut at the start, or a line of another version
        return found[-count:]
