"""`pytest --until`, by which `.ci/run` leaves long tests to the nightly."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.conftest import pytest_runtest_setup

A_TEST = "tests/test_containers.py::test_both_images_have_one_base_and_one_way_to_install"


def test_tests_that_have_not_begun_by_then_are_skipped() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", A_TEST, f"--until={time.time() - 1}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert "1 skipped" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert "time is up" in done.stdout


def test_tests_that_have_begun_by_then_or_may_take_any_time_are_run() -> None:
    now = time.time()
    assert [is_skipped(until) for until in (None, now + 3600, now - 1)] == [False, False, True]


def is_skipped(until: float | None) -> bool:
    item = SimpleNamespace(config=SimpleNamespace(getoption=lambda _: until))
    try:
        pytest_runtest_setup(cast(pytest.Item, item))
    except pytest.skip.Exception:
        return True
    return False
