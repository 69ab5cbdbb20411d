"""How a stage in a job ends where its state cannot be recorded."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from emixer import files
from emixer.cli.answer import ExitCode
from emixer.config import Config
from emixer.errors import ConfigError, StorageError
from jobs.run_stage import run_stage


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An order for a stage that fails unless its seed is 1, on a disk that takes no states."""

    def run(config: Config) -> str:
        if config.seed != 1:
            raise ConfigError("no images")
        return "all images"

    stage = ModuleType("stage_of_test")
    stage.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stage_of_test", stage)
    path = tmp_path / "order.json"
    path.write_text(json.dumps({"module": "stage_of_test", "config": {}}))

    def write_json(path: Path, content: object) -> None:
        raise StorageError(f"{path} could not be written")

    monkeypatch.setattr(files, "write_json", write_json)
    before = signal.getsignal(signal.SIGTERM)
    yield path
    signal.signal(signal.SIGTERM, before)


def test_failure_is_a_paragraph_on_a_full_disk_too(order: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_stage(order) == ExitCode.USERS_ERROR
    assert capsys.readouterr().err == "Error: no images\n"


def test_stage_that_has_finished_has_not_failed_for_a_full_disk(
    order: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order.write_text(json.dumps({"module": "stage_of_test", "config": {"seed": 1}}))
    assert run_stage(order) == 0
    assert capsys.readouterr().out == "all images\n"


@pytest.mark.parametrize(("seed", "code"), [(0, ExitCode.USERS_ERROR), (1, 0)])
def test_full_disk_under_the_log_changes_no_exit_code(
    order: Path, seed: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order.write_text(json.dumps({"module": "stage_of_test", "config": {"seed": seed}}))
    with ExitStack() as opened:
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, opened.enter_context(Path("/dev/full").open("w")))
        assert run_stage(order) == code
