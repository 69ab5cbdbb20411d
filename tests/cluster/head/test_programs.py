"""Programs on the head when the disk of the cluster's folder is full for a while."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster import files
from cluster.head.programs import Program, Programs, submit

ENVIRONMENT = {"PATH": os.environ["PATH"], "SECRET": "s3cret"}


class Disk:
    """Refuses the files of these names, while it is full."""

    def __init__(self) -> None:
        self.refuses: Callable[[Path], bool] = lambda path: False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk, write = Disk(), files.write_private

    def write_private(path: Path, text: str) -> None:
        if disk.refuses(path):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
        write(path, text)

    monkeypatch.setattr(files, "write_private", write_private)
    return disk


def is_state(path: Path) -> bool:
    return path.name == "state.json"


def wait_for(head: Programs, program: Program) -> dict[str, Any]:
    end = time.monotonic() + 20
    while program.state()["state"] != "ended" and time.monotonic() < end:
        head.look()
        time.sleep(0.05)
    return program.state()


def test_end_that_could_not_be_written_is_written_later(tmp_path: Path, disk: Disk) -> None:
    head = Programs(tmp_path, {})
    program = submit(tmp_path, ["sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; exit 3"], tmp_path, {})
    head.look()
    disk.refuses = is_state
    (tmp_path / "go").touch()
    with pytest.raises(OSError, match="quota"):
        wait_for(head, program)
    disk.refuses = lambda path: False
    assert wait_for(head, program)["code"] == 3


@pytest.mark.parametrize("name", ["state.json", "request.json"])
def test_program_that_came_while_the_disk_was_full_runs_later_and_once(name: str, tmp_path: Path, disk: Disk) -> None:
    head = Programs(tmp_path, {})
    program = submit(tmp_path, ["sh", "-c", 'echo "$SECRET"'], tmp_path, ENVIRONMENT)
    disk.refuses = lambda path: path.name == name
    with pytest.raises(OSError, match="quota"):
        wait_for(head, program)
    disk.refuses = lambda path: False
    assert wait_for(head, program)["code"] == 0
    assert program.log.read_text() == "s3cret\n"
    assert "s3cret" not in (program.folder / "request.json").read_text()


def test_command_that_does_not_exist_ends_once_that_can_be_written(tmp_path: Path, disk: Disk) -> None:
    head = Programs(tmp_path, {})
    program = submit(tmp_path, ["no-such-command"], tmp_path, ENVIRONMENT)
    disk.refuses = lambda path: is_state(path) and "running" in path.read_text() if path.exists() else False
    with pytest.raises(OSError, match="quota"):
        wait_for(head, program)
    disk.refuses = lambda path: False
    assert wait_for(head, program)["code"] == 127
    assert "damaged" not in program.log.read_text()


def test_state_that_cannot_be_written_at_the_end_spares_no_other_program(tmp_path: Path, disk: Disk) -> None:
    head = Programs(tmp_path, {})
    first, second = (submit(tmp_path, ["sleep", "60"], tmp_path, ENVIRONMENT) for _ in range(2))
    head.look()
    disk.refuses = lambda path: path.is_relative_to(first.folder)
    head.stop_all()
    assert second.state()["state"] == "ended"
