"""`python -m cluster` where SLURM does not answer, jobs do not go, or the disk is full, with stand-ins for its
commands."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cluster import files
from cluster.config import load_config
from cluster.login import cli
from cluster.slurm.job_registry import comment, key_of

Put = Callable[[str, str], None]


@pytest.fixture
def home(tmp_path: Path, command: Put) -> Path:
    """Home of a cluster called one, with its config; SLURM knows no jobs."""
    settings = {"name": "one", "folder": str(tmp_path / "rays"), "node_types": {"cpu": {"max": 1}}}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(settings))
    command("scontrol", "echo ClusterName = one")
    command("squeue", "exit 0")
    command("scancel", f'echo "$@" >> {tmp_path}/scancelled')
    home = tmp_path / "rays" / "one"
    home.mkdir(parents=True)
    config = load_config(tmp_path / "cluster.yaml")
    files.write_json(home / files.CONFIG_NAME, config.model_dump(mode="json"))
    return home


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli.main, [*arguments, *(() if arguments[0] == "up" else ("--folder", str(home.parent)))])


def head(home: Path, state: str) -> str:
    """The line of squeue for a head in that state."""
    return f"7|{state}|None|1:00|n1|N/A|N/A|{comment(key_of(home), 'a', 'head')}"


def full(*arguments: Any) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_up_says_that_slurm_may_have_the_head(home: Path, tmp_path: Path, command: Put) -> None:
    command("sbatch", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    result = run(home, "up", "--config", str(tmp_path / "cluster.yaml"))
    assert result.exit_code == 2
    assert "SLURM did not say whether it has the head's job: sbatch: Socket timed out" in result.output
    assert f"`python -m cluster down --folder {home.parent}` cancels it" in result.output


def test_head_whose_node_does_not_let_go_hinders_no_new_cluster(home: Path, tmp_path: Path, command: Put) -> None:
    command("squeue", f"echo '{head(home, 'COMPLETING')}'")
    command("sbatch", "echo 8")
    result = run(home, "up", "--no-wait", "--config", str(tmp_path / "cluster.yaml"))
    assert (result.exit_code, result.output) == (0, "one: head job 8\n")


def test_down_does_not_wait_for_a_node_that_does_not_let_go(
    home: Path, command: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_GRACE_S", 1.0)
    monkeypatch.setattr(cli, "_DOWN_WAIT_S", 5.0)
    command("squeue", f"echo '{head(home, 'COMPLETING')}'")
    result = run(home, "down")
    assert result.exit_code == 0, result.output
    assert "Cluster one is down" in result.output


def test_down_ends_the_head_through_slurm_when_the_disk_is_full(
    home: Path, tmp_path: Path, command: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("squeue", f"test -e {tmp_path}/scancelled || echo '{head(home, 'RUNNING')}'")
    monkeypatch.setattr(files, "write_private", full)
    result = run(home, "down")
    assert result.exit_code == 0, result.output
    assert f"{home} is not writable (Disk quota exceeded): ending the head through SLURM." in result.output
    assert (tmp_path / "scancelled").read_text().split() == ["--quiet", "7"]


def test_full_disk_is_a_paragraph_for_submit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_is_up", lambda home: True)
    monkeypatch.setattr(files, "write_private", full)
    result = CliRunner().invoke(cli.main, ["submit", "--folder", str(home.parent), "--", "true"])
    assert result.exit_code == 2
    assert "Error: Disk quota exceeded. Free space or quota in the cluster's folder" in result.output


def test_up_starts_no_second_head_while_one_is_starting(home: Path, tmp_path: Path, command: Put) -> None:
    # it is no job of SLURM with head.where=here, and announces itself only when Ray is up
    command("sbatch", f"touch {tmp_path}/submitted; echo 8")
    with files.lock(home / files.HEAD_LOCK_NAME):
        result = run(home, "up", "--no-wait", "--config", str(tmp_path / "cluster.yaml"))
        assert result.exit_code == 2
        assert "Cluster one has a head that is starting or ending." in result.output
        assert f"end it with `python -m cluster down --folder {home.parent}`" in result.output
        assert not (tmp_path / "submitted").exists()
    result = run(home, "up", "--no-wait", "--config", str(tmp_path / "cluster.yaml"))
    assert (result.exit_code, result.output) == (0, "one: head job 8\n")
