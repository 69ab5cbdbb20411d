"""`python -m jobs` where SLURM does not answer or its job ids come again, with stand-ins for its commands."""

import errno
import os
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
    assert "`squeue --me --all --name=emixer-train`" in result.output
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


def submitted(settings: list[str], command: Put, tmp_path: Path) -> Path:
    """Submit job 7, which SLURM then shows as running. Return its folder."""
    command("sbatch", "echo Submitted batch job 7")
    assert run("train", *given(settings)).exit_code == 0
    show(command, "emixer:train")
    return tmp_path / "jobs" / "7"


def show(command: Put, comment: str) -> None:
    command("squeue", f"echo '7|RUNNING|None|1:00|n1|N/A|N/A|{comment}'")


def test_what_an_earlier_job_of_the_same_number_left_does_not_count(
    settings: list[str], command: Put, tmp_path: Path
) -> None:
    mark, state = tmp_path / "jobs" / "7" / "cancelled", tmp_path / "jobs" / "cluster" / "7" / "state.json"
    for left, text in ((mark, ""), (state, '{"state": "failed", "error": "of an earlier job"}')):
        left.parent.mkdir(parents=True)
        left.write_text(text)
    submitted(settings, command, tmp_path)
    assert not mark.exists(), "or the new job would cancel itself"
    command("squeue", "exit 0")
    assert "of an earlier job" not in run("status", "--folder", str(tmp_path / "jobs")).output


def test_element_that_ends_while_others_are_being_listed_keeps_its_record(
    settings: list[str], command: Put, tmp_path: Path
) -> None:
    state = tmp_path / "jobs" / "cluster" / "7_1" / "state.json"
    said = '{"state": "failed", "error": "no shards"}'
    command("sbatch", f"mkdir -p {state.parent}; echo '{said}' > {state}; echo Submitted batch job 7")
    assert run("train", *given(settings), "--array", "seed=0,1,2").exit_code == 0
    assert "no shards" in run("status", "--folder", str(tmp_path / "jobs")).output


def test_another_job_of_the_same_number_is_not_cancelled(settings: list[str], command: Put, tmp_path: Path) -> None:
    folder = submitted(settings, command, tmp_path)
    cancel = ("cancel", "7", "--folder", str(tmp_path / "jobs"))
    show(command, "ray:one:a:cpu:r")
    refused = run(*cancel)
    assert refused.exit_code == 2
    assert "Job 7 is another job now: its comment is 'ray:one:a:cpu:r'" in refused.output
    assert not (tmp_path / "scancelled").exists()
    assert not (folder / "cancelled").exists()
    show(command, "emixer:train")
    assert run(*cancel).exit_code == 0
    assert (tmp_path / "scancelled").read_text().split() == ["--quiet", "7"]


def test_jobs_of_another_slurm_with_the_same_home_are_left_alone(
    settings: list[str], command: Put, tmp_path: Path
) -> None:
    job = submitted(settings, command, tmp_path) / "job.json"
    before = job.read_text()
    command("scontrol", "echo ClusterName = two")
    again = run("train", *given(settings), "--set", f"train.run={tmp_path / 'other'}")
    assert again.exit_code == 2
    assert "were submitted to the SLURM cluster one, but this is two" in again.output
    assert job.read_text() == before
    folder = ("--folder", str(tmp_path / "jobs"))
    assert "on the SLURM cluster one, not two: run status there" in run("status", *folder).output
    assert run("cancel", "7", *folder).exit_code == 2
    assert not (tmp_path / "scancelled").exists()
    command("scontrol", "echo ClusterName = one")
    assert run("cancel", "7", *folder).exit_code == 0


def test_full_disk_keeps_no_job_running(
    settings: list[str], command: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(settings, command, tmp_path)

    def touch(path: Path) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))

    monkeypatch.setattr(Path, "touch", touch)
    assert run("cancel", "7", "--folder", str(tmp_path / "jobs")).exit_code == 0
    assert (tmp_path / "scancelled").read_text().split() == ["--quiet", "7"]


@pytest.mark.parametrize("array", [[], ["--array", "seed=0,1"]])
@pytest.mark.parametrize("last", ["submission.sh", "submitted.pkl", "job.json"])
def test_job_whose_files_cannot_be_written_is_cancelled(
    last: str, array: list[str], settings: list[str], command: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would run unlisted, and a second one beside it when the command is repeated."""
    command("sbatch", "echo Submitted batch job 7")
    fill_disk(last, monkeypatch)
    result = run("train", *given(settings), *array)
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "Job 7 was cancelled, as its files could not be written. Cannot write " in said
    assert "the disk or quota is full" in said
    assert "refused" not in said
    assert (tmp_path / "scancelled").read_text().split() == ["--quiet", "7"]


def fill_disk(last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, no file whose name ends like that can be moved to its place."""

    def refusing(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def move_or_refuse(path: Path, target: Path) -> Path:
            if str(target).endswith(last):
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
            return move(path, target)

        return move_or_refuse

    monkeypatch.setattr(Path, "rename", refusing(Path.rename))
    monkeypatch.setattr(Path, "replace", refusing(Path.replace))


def test_job_that_can_be_neither_written_nor_cancelled_is_named(
    settings: list[str], command: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("sbatch", "echo Submitted batch job 7")
    command("scancel", "echo 'Socket timed out' >&2; exit 1")
    fill_disk("job.json", monkeypatch)
    said = " ".join(run("train", *given(settings)).output.split())
    assert "cancelling it failed too (scancel failed: Socket timed out): run `scancel 7` before you submit" in said


def test_full_disk_before_the_submission_is_not_called_a_refusal(
    settings: list[str], command: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("sbatch", f"touch {tmp_path}/asked; echo Submitted batch job 7")
    fill_disk("/jobs/slurm", monkeypatch)
    result = run("train", *given(settings))
    assert result.exit_code == 2
    assert "the disk or quota is full" in result.output
    assert "refused" not in result.output
    assert not (tmp_path / "asked").exists()


def test_array_is_cancelled_by_its_own_id(settings: list[str], command: Put, tmp_path: Path) -> None:
    """SLURM may take longer over a thousand ids than it is given."""
    command("sbatch", "echo Submitted batch job 7")
    assert run("train", *given(settings), "--array", "seed=0,1,2").exit_code == 0
    lines = [f"7_{element}|RUNNING|None|1:00|n1|N/A|N/A|emixer:train" for element in range(3)]
    command("squeue", "\n".join(f"echo '{line}'" for line in lines))
    folder = ("--folder", str(tmp_path / "jobs"))
    assert run("cancel", "7_1", *folder).exit_code == 0
    assert run("cancel", "7", *folder).exit_code == 0
    assert (tmp_path / "scancelled").read_text().split() == ["--quiet", "7_1", "--quiet", "7"]
