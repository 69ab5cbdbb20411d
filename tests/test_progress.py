"""One progress line on any kind of output."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from emixer.progress import Progress, _clock


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_log_file_gets_whole_lines_without_control_characters() -> None:
    log = io.StringIO()
    with Progress("ingest", 2000, "images", stream=log) as progress:
        progress.update(500)
        progress.update(2000, bad="3")
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("ingest  500/2,000 images (25%)")
    assert lines[-1].startswith("ingest  2,000/2,000 images (100%)")
    assert lines[-1].endswith("bad 3")
    assert "\r" not in log.getvalue()
    assert "\033" not in log.getvalue()


def test_log_file_is_not_flooded() -> None:
    log = io.StringIO()
    with Progress("train", 10_000, "images", stream=log) as progress:
        for _ in range(10_000):
            progress.advance(1)
    assert len(log.getvalue().splitlines()) == 2


def test_terminal_line_is_rewritten_in_place_and_ended_once() -> None:
    terminal = Terminal()
    with Progress("train", 3, "images", stream=terminal) as progress:
        for _ in range(3):
            progress.advance(1)
    shown = terminal.getvalue()
    assert shown.startswith("\r\033[K")
    assert shown.count("\n") == 1
    assert shown.endswith("\n")


def test_line_never_wraps_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    with Progress("train", 10, "images", stream=terminal) as progress:
        progress.update(5, **{f"loss_{index}": "0.123" for index in range(20)})
    shown = [line.removeprefix("\033[K") for line in re.split("[\r\n]", terminal.getvalue())]
    assert max(map(len, shown)) == 39


def test_work_of_an_earlier_run_counts_as_done_but_not_for_the_rate() -> None:
    progress = Progress("train", 1000, "images", done=900, stream=io.StringIO())
    assert progress.rate == 0
    assert "900/1,000 images (90%)" in progress.line()
    assert "ETA" not in progress.line()
    progress.update(950)
    assert progress.rate > 0
    assert "ETA" in progress.line()


def test_rate_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("emixer.progress.time.monotonic", lambda: now)
    progress = Progress("train", 10_000, "images", stream=io.StringIO())
    now = 100.0  # processes start
    progress.update(10)
    for _ in range(100):
        now += 1.0
        progress.advance(20)
    assert progress.rate == pytest.approx(20)
    assert progress.line().endswith("ETA 6:39")  # 7,990 images left
    assert len(progress._marks) < 70


def test_rate_begins_anew_after_work_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("emixer.progress.time.monotonic", lambda: now)
    progress = Progress("train", 1000, "images", stream=io.StringIO())
    for seconds, done in ((2, 200), (4, 400), (10, 100), (15, 150)):
        now = float(seconds)
        progress.update(done)
        assert progress.rate >= 0
    assert progress.rate == 10, "50 images in 5 s, whatever was done before"


def test_no_work_is_100_percent_done() -> None:
    log = io.StringIO()
    with Progress("ingest", 0, "images", stream=log):
        pass
    assert "0/0 images (100%)" in log.getvalue()


def test_last_line_is_shown_if_the_work_fails() -> None:
    log = io.StringIO()
    with pytest.raises(RuntimeError), Progress("train", 10, "images", stream=log) as progress:  # noqa: PT012
        progress.update(1)
        progress.update(7)
        raise RuntimeError
    assert log.getvalue().splitlines()[-1].startswith("train  7/10")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (9.9, "0:09"), (61, "1:01"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_times_are_formatted_as_a_clock(seconds: float, shown: str) -> None:
    assert _clock(seconds) == shown


@pytest.mark.parametrize("terminal", [False, True])
def test_full_disk_under_the_log_costs_lines_and_not_the_work_or_its_exit_code(terminal: bool) -> None:
    program = f"""
import sys
from emixer.progress import Progress

sys.stderr.isatty = lambda: {terminal}
try:
    with Progress("train", 2, "images") as progress:
        progress.update(1)
        progress.say("a line")
        progress.update(2)
        raise KeyError("its own")
except KeyError:
    print("all the work")
"""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, text=True, check=False,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "all the work\n")
