"""`emixer doctor`: what it says of this machine, and of machines that lack something."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from emixer.cli.main import main
from emixer.doctor import State, machine, packages


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which there is nothing."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return programs


def examined(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def findings(*arguments: str) -> dict[str, Any]:
    told = json.loads(examined("--json", *arguments).output)
    return {finding["check"]: finding for finding in told["findings"]} | {"healthy": told["healthy"]}


@pytest.mark.ray
def test_a_machine_on_which_everything_works_is_healthy(ray_cluster: None, no_slurm: Path, tmp_path: Path) -> None:
    told = examined("--folder", str(tmp_path))
    assert told.exit_code == 0, told.output
    assert "ok      Python: 3." in told.output
    assert "required ones, torch 2." in told.output
    assert f"ok      folder {tmp_path}: " in told.output
    assert "atomic renames, file locks" in told.output
    assert "ran a task" in told.output
    assert "ok      SLURM: not found" in told.output
    assert told.output.splitlines()[-1].startswith("No problems, ")
    assert list(tmp_path.iterdir()) == [no_slurm], "nothing is left behind"


@pytest.mark.parametrize(("load", "state"), [(60.0, State.OK), (130.0, State.WARNING)])
def test_the_load_of_a_shared_node_is_weighed_against_all_its_processors(
    load: float, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emixer.ray_session._CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 5, 6, 7})
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    (processors,) = (finding for finding in machine.look() if finding.check == "processors")
    assert (processors.state, processors.what) == (state, f"4 of 128 CPUs, load {load}")


def test_the_limit_of_a_container_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    monkeypatch.setattr("emixer.ray_session._CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    (processors,) = (finding for finding in machine.look() if finding.check == "processors")
    assert processors.what == "4 of 64 CPUs, load 1.0"


@pytest.mark.ray
def test_a_folder_that_cannot_be_used_is_a_problem_with_a_remedy(
    ray_cluster: None, no_slurm: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    told = examined("--folder", str(tmp_path / "absent"), "--folder", str(tmp_path / "file"))
    assert told.exit_code == 1
    assert f"problem folder {tmp_path / 'absent'}: does not exist" in told.output
    assert f"-> mkdir -p {tmp_path / 'absent'}" in told.output
    assert f"problem folder {tmp_path / 'file'}" in told.output
    assert told.output.splitlines()[-1].startswith("2 problems, ")


@pytest.mark.parametrize(
    ("found", "fits"), [("2.12.0a0+nv26.02", True), ("2.12.0", True), ("2.10.1", False), ("2.16.0", False)]
)
def test_torch_of_a_container_counts_by_its_number(found: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "requires", lambda name: ["torch>=2.11,<2.16"])
    monkeypatch.setattr(packages, "version", lambda name: found)
    assert (State.PROBLEM in {finding.state for finding in packages.look()}) != fits


@pytest.mark.ray
def test_a_package_of_another_version_is_named_with_what_installs_the_right_one(
    ray_cluster: None, no_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "old" / "pyarrow-3.0.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: pyarrow\nVersion: 3.0.0\n")
    monkeypatch.syspath_prepend(tmp_path / "old")
    told = findings()
    assert told["packages"]["what"] == "pyarrow is of version 3.0.0; pyarrow>=17.0 is needed"
    assert told["packages"]["remedy"] == "pip install 'pyarrow>=17.0'"
    assert not told["healthy"]


@pytest.mark.ray
def test_a_slurm_of_which_half_is_on_the_path_is_a_problem(ray_cluster: None, no_slurm: Path) -> None:
    program = no_slurm / "sbatch"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    told = findings()["SLURM"]
    assert told["state"] == "problem"
    assert told["what"] == "squeue, scancel, sinfo, scontrol not found"


def test_a_cluster_that_does_not_answer_is_a_problem_and_the_other_checks_go_on(tmp_path: Path) -> None:
    """In a process of its own: that of the tests may be connected to a Ray already."""
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1", "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "emixer", "doctor", "--folder", str(tmp_path)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 1, told.stdout + told.stderr
    assert "problem Ray at 127.0.0.1:1: does not answer" in told.stdout
    assert "-> No Ray cluster answers at 127.0.0.1:1" in told.stdout
    assert "ok      SLURM: not found" in told.stdout
