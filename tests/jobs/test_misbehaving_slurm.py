"""`python -m jobs` where SLURM does not answer or its job ids come again, with stand-ins for its commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jobs.cli import main

Put = Callable[[str, str], None]
TIMED_OUT = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def settings(tmp_path: Path, command: Put) -> list[str]:
    """Settings of a pipeline, for a SLURM called `one` that knows no jobs."""
    command("srun", "exit 1")
    command("squeue", "exit 0")
    command("scontrol", "echo ClusterName = one")
    command("scancel", f'echo "$@" >> {tmp_path}/scancelled')
    (tmp_path / "shards").mkdir()
    return [
        f"slurm.folder={tmp_path / 'jobs'}", f"data.shards={tmp_path / 'shards'}", f"train.run={tmp_path / 'run'}",
        f"generate.out={tmp_path / 'pairs'}",
    ]  # fmt: skip


def given(settings: list[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@pytest.mark.parametrize("answer", [TIMED_OUT, "echo 'Welcome to our cluster'"])
def test_job_that_slurm_may_have_is_not_called_refused(answer: str, settings: list[str], command: Put) -> None:
    command("sbatch", answer)
    result = run("train", *given(settings))
    assert result.exit_code == 2
    assert "SLURM did not say whether it has the job: " in result.output
    assert "`squeue --me --name=emixer-train`" in result.output
    assert "refused" not in result.output


def test_refusal_is_called_so(settings: list[str], command: Put) -> None:
    command("sbatch", "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1")
    assert "SLURM refused the job: " in run("train", *given(settings)).output


def test_first_error_and_queued_stages_are_named_where_cancelling_fails_too(
    settings: list[str], command: Put, tmp_path: Path
) -> None:
    command("sbatch", f"if mkdir {tmp_path}/once 2>&-; then echo Submitted batch job 5; else {TIMED_OUT}; fi")
    command("squeue", "case \"$*\" in *'-j 5'*) echo '5|PENDING';; *) echo 'Socket timed out' >&2; exit 1;; esac")
    result = run("pipeline", *given(settings), "--stages", "train,generate")
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "generate: SLURM did not say whether it has the job: " in said
    assert "Socket timed out on send/recv operation" in said
    assert "may still be queued, since cancelling them failed too (squeue failed: Socket timed out)" in said
    assert f"`python -m jobs cancel 5 --folder {tmp_path / 'jobs'}`" in said
    assert not (tmp_path / "scancelled").exists()
