"""`pytest --until`, by which `.ci/run` leaves long tests to the nightly."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

A_TEST = "tests/test_containers.py::test_both_images_have_one_base_and_one_way_to_install"


@pytest.mark.parametrize(("seconds_left", "outcome"), [(-1, "1 skipped"), (3600, "1 passed")])
def test_tests_that_have_not_begun_by_then_are_skipped(seconds_left: int, outcome: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        A_TEST,
        f"--until={time.time() + seconds_left}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert outcome in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert ("time is up" in done.stdout) == (seconds_left < 0)
