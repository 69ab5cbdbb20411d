"""One progress line: rewritten in place on a terminal, printed periodically to a log file."""

import shutil
import sys
import time
from collections import deque
from types import TracebackType
from typing import Self, TextIO

from cluster.output import expendable

_TERMINAL_EVERY_S = 0.2
_LOG_EVERY_S = 30.0
_RATE_OVER_S = 60.0
"""Rates and ETAs are over the last minute, so that the start-up of processes soon drops out."""
_MARK_EVERY_S = 1.0


class Progress:
    """`label 1,234/5,000 images (25%) 321 images/s ... ETA 0:12`.

    total: amount of work; unit: plural noun, e.g. "images"; done: amount finished by an earlier run, which counts as
    done but not in the rate.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0, stream: TextIO | None = None) -> None:
        self.label, self.total, self.unit = label, total, unit
        self._stream = stream or sys.stderr
        self._every_s = _TERMINAL_EVERY_S if self._stream.isatty() else _LOG_EVERY_S
        self._done = done
        self._marks = deque([(time.monotonic(), done)])
        self._shown = -float("inf")
        self._fields: dict[str, str] = {}
        self._last_line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(last=True)

    def update(self, done: int, **fields: str) -> None:
        """Set the amount done so far; `fields` are shown as `name value`. Less than before is work that a failure has
        cost: the rate begins anew."""
        if done < self._done:
            self._marks = deque([(time.monotonic(), done)])
        elif done > self._done:
            self._mark(done)
        self._done = done
        self._fields.update(fields)
        if time.monotonic() - self._shown >= self._every_s:
            self._show()

    def advance(self, more: int, **fields: str) -> None:
        """Add to the amount done."""
        self.update(self._done + more, **fields)

    def say(self, text: str) -> None:
        """Print a line that stays above the progress line."""
        with expendable(self._stream):
            self._stream.write(f"\r\033[K{text}\n" if self._stream.isatty() else f"{text}\n")
            self._stream.flush()
        if self._stream.isatty():
            self._show()

    @property
    def rate(self) -> float:
        """Units per second over the last minute."""
        (begin, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(end - begin, 1e-9)

    def line(self) -> str:
        """Return the line as shown."""
        share = self._done / self.total if self.total else 1.0
        parts = [
            self.label,
            f"{self._done:,}/{self.total:,} {self.unit} ({share:.0%})",
            _rate(self.rate, self.unit),
            *(f"{name} {value}" for name, value in self._fields.items()),
        ]
        if self.rate > 0 and self._done < self.total:
            parts.append(f"ETA {_clock((self.total - self._done) / self.rate)}")
        return "  ".join(parts)

    def _mark(self, done: int) -> None:
        now = time.monotonic()
        if len(self._marks) > 1 and now - self._marks[-2][0] < _MARK_EVERY_S:
            self._marks.pop()
        self._marks.append((now, done))
        while len(self._marks) > 2 and self._marks[1][0] < now - _RATE_OVER_S:
            self._marks.popleft()

    def _show(self, last: bool = False) -> None:
        self._shown = time.monotonic()
        line = self.line()
        with expendable(self._stream):
            if self._stream.isatty():
                columns = shutil.get_terminal_size().columns  # a line that wraps could not be rewritten in place
                self._stream.write(f"\r\033[K{line[: columns - 1]}" + ("\n" if last else ""))
            elif not (last and line == self._last_line):
                self._stream.write(line + "\n")
            self._stream.flush()
        self._last_line = line


def _rate(per_s: float, unit: str) -> str:
    if per_s >= 1 or not per_s:
        return f"{per_s:,.0f} {unit}/s"
    return f"{60 * per_s:,.1f} {unit}/min" if per_s >= 1 / 60 else f"{3600 * per_s:,.1f} {unit}/h"


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
