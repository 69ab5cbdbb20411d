"""What became of the jobs: state, why they wait, how far they are, where their logs are.

SLURM is asked once for all of them: squeue for those that it still knows, sacct where there is one. What neither knows
any more is told from what the job itself left behind.
"""

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.reasons import in_words
from emixer.config.load import load_config
from emixer.errors import EmixerError
from emixer.run_folder import RunFolder
from jobs.run_stage import read_state
from jobs.submit import CLUSTER_FOLDER, JOB_NAME, Job
from jobs.task import TRIALS

_TIMEOUT_S = 20
ALIVE = ("pending", "running", "completing", "configuring", "suspended", "requeued", "resizing", "stopped")
"""States of a job that will write again."""
_OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL")


@dataclass(frozen=True)
class JobStatus:
    """One line of the table."""

    job: Job
    state: str
    """SLURM's word in lower case; `finished` or `failed` by the stage's own account where that says more."""
    note: str
    """Why it waits, where it runs, or what went wrong."""
    progress: str
    """How far the stage is; empty where that cannot be told."""

    @property
    def log(self) -> Path:
        """Of the first task, where the stage's own lines are."""
        return Path(self.job.folder) / f"{self.job.job_id}_0_log.out"


def all_jobs(folder: Path) -> list[Job]:
    """Jobs submitted with that `slurm.folder`, oldest first."""
    found = [Job.load(path.parent) for path in folder.glob(f"*/{JOB_NAME}")]
    return sorted(found, key=lambda job: job.submitted)


def find_job(folder: Path, job_id: str) -> Job:
    """The job with that id. Raises EmixerError when there is none."""
    for job in all_jobs(folder):
        if job.job_id == job_id:
            return job
    raise EmixerError(
        f"There is no job {job_id} in {folder}. `python -m jobs status` lists them; --folder names another folder."
    )


def statuses(jobs: Sequence[Job]) -> list[JobStatus]:
    """One a job, in their order."""
    asked = [job.job_id for job in jobs if job.executor == "slurm"]
    queued, accounted = _squeue(asked), _sacct(asked)
    return [_status(job, queued.get(job.job_id), accounted.get(job.job_id)) for job in jobs]


def cancel(job: Job) -> None:
    """Takes a job back, with what waits for it left pending for ever: SLURM says so. Raises EmixerError if refused."""
    if job.executor == "local" and not _is_running(job):
        raise EmixerError(f"Job {job.job_id} is over, or runs on another machine: there is nothing to cancel here.")
    command = ["scancel", job.job_id] if job.executor == "slurm" else ["kill", job.job_id]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    if done.returncode:
        raise EmixerError(f"Job {job.job_id} could not be cancelled: {done.stderr.strip() or done.returncode}")


def _status(job: Job, queued: dict[str, str] | None, accounted: str | None) -> JobStatus:
    said = read_state(_state_folder(job))
    progress = _progress(job)
    if queued is not None and queued["state"] not in _OVER:
        state = queued["state"].lower()
        if state == "pending":
            return JobStatus(job, state, in_words(queued["reason"]), progress)
        return JobStatus(job, state, f"{queued['nodes']}, {queued['left']} left", progress)
    if said.get("state") in ("finished", "failed"):
        note = said.get("error", "").splitlines()
        return JobStatus(job, said["state"], note[0] if note else "", progress)
    if job.executor == "local":
        alive = _is_running(job)
        return JobStatus(job, "running" if alive else "gone", "" if alive else "ended without a word", progress)
    over = (queued or {}).get("state") or accounted
    if over is not None:
        return JobStatus(job, over.lower(), "", progress)
    return JobStatus(job, "gone", "SLURM no longer knows it, and it never said that it had finished", progress)


def _state_folder(job: Job) -> Path:
    return Path(job.folder).parent / CLUSTER_FOLDER / job.job_id


def _is_running(job: Job) -> bool:
    """Whether the process of a local job is there: that number, its own folder in the command line, and not ended."""
    process = Path("/proc") / job.job_id
    try:
        ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return not ended and str(Path(job.folder).parent).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


def _progress(job: Job) -> str:
    if job.run is None or not Path(job.run).is_dir():
        return ""
    run = Path(job.run)
    if job.stage in ("train", "encoder"):
        try:
            lines = RunFolder(run).metrics()
            config = load_config(run / "config.yaml")
        except EmixerError:
            return ""
        images = config.train.images if job.stage == "train" else config.encoder.images
        return f"{lines[-1]['images']:,} of {images:,} films" if lines else ""
    if job.stage == "tune":
        return f"{len(list(run.glob(TRIALS))):,} trials begun"
    if job.stage == "generate":
        return f"{len(list(run.glob('data/*.parquet'))):,} files"
    return ""


def _squeue(job_ids: Sequence[str]) -> dict[str, dict[str, str]]:
    if not job_ids or shutil.which("squeue") is None:
        return {}
    known: dict[str, dict[str, str]] = {}
    # one unknown id makes squeue forget all others, so it is asked for all of the user's jobs
    shown = _asked(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%r|%L|%N"])
    for line in shown.splitlines():
        job_id, state, reason, left, nodes = line.split("|", 4)
        known[job_id] = {"state": state, "reason": reason, "left": left, "nodes": nodes}
    return {job_id: known[job_id] for job_id in job_ids if job_id in known}


def _sacct(job_ids: Sequence[str]) -> dict[str, str]:
    """Empty where the site keeps no accounts."""
    if not job_ids or shutil.which("sacct") is None:
        return {}
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State", "-j", ",".join(job_ids)]
    try:
        rows = [line.split("|") for line in _asked(command).splitlines() if "|" in line]
    except EmixerError:
        return {}
    return {row[0]: row[1].split()[0] for row in rows if row[1]}


def _asked(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise EmixerError(f"{command[0]} did not answer within {_TIMEOUT_S} s: is the SLURM controller up?") from error
    except subprocess.CalledProcessError as error:
        raise EmixerError(f"{command[0]} failed: {error.stderr.strip()}") from error
    return done.stdout


def table(found: Sequence[JobStatus], now: float | None = None) -> str:
    """For a terminal."""
    if not found:
        return "No job yet."
    header = ("job", "stage", "state", "submitted", "progress", "")
    rows = [
        (
            status.job.job_id,
            status.job.stage,
            status.state,
            _ago(status.job.submitted, now),
            status.progress,
            status.note,
        )
        for status in found
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header) - 1)]
    lines = []
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def _ago(then: float, now: float | None) -> str:
    seconds = (time.time() if now is None else now) - then
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def summary(status: JobStatus) -> dict[str, Any]:
    """One job as JSON."""
    return {
        "job": status.job.job_id, "stage": status.job.stage, "state": status.state, "note": status.note,
        "progress": status.progress, "log": str(status.log), "run": status.job.run,
    }  # fmt: skip
