"""Status of jobs: state, pending reason, progress, log files.

SLURM is queried once for all of them: squeue for those it still knows; sacct, where the site has accounting, for those
that have not recorded how they ended. The state of jobs unknown to both is inferred from their files.
"""

import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import slurm
from cluster.slurm import identity
from cluster.slurm.reasons import in_words
from emixer.errors import EmixerError
from emixer.run_folder import RunFolder
from jobs.run_stage import read_state
from jobs.submit import COMMENT, JOB_NAME, Job, log_of, slurms_words, state_folder
from jobs.task import TAKEN_BACK, TRIALS

ALIVE = (
    "pending", "running", "completing", "configuring", "suspended", "requeued", "resizing", "stopped", "signaling",
    "stage_out", "requeue_fed", "requeue_hold", "special_exit", "resv_del_hold",
)  # fmt: skip
"""States of a job that may still write."""
_OVER_SHOWN = 20
_SAID = ("finished", "failed")
"""Final states as recorded by the stage itself."""
_ENDS = {
    "OUT_OF_MEMORY": "out of memory: raise slurm.memory_gb and submit again to resume",
    "TIMEOUT": "reached its time limit slurm.max_requeues times: submit again to resume",
    "NODE_FAIL": "its node failed and SLURM did not requeue it: submit again to resume",
    "BOOT_FAIL": "its node did not boot: submit again",
    "PREEMPTED": "this partition ends preempted jobs instead of requeueing them: submit again to resume",
    "FAILED": "failed without an error message: see its log",
}
"""Explanation of SLURM's final states, for jobs that did not record how they ended."""


_HELD = {
    "requeue_hold": "held after a requeue, as a node or a prolog failed",
    "special_exit": "held, as it ended in a way that the site holds jobs for",
    "resv_del_hold": "held, as its reservation is gone",
}
"""States of a job that waits for its user."""


@dataclass(frozen=True)
class JobStatus:
    """One line of the table."""

    job: Job
    state: str
    """SLURM's state in lower case; `finished` or `failed` as recorded by the stage where that says more."""
    note: str
    """Why it waits, where it runs, or what went wrong."""

    @property
    def progress(self) -> str:
        """Progress of the stage; empty if unknown. Reads the run's config: only for jobs that are shown."""
        return _progress(self.job)

    @property
    def may_write(self) -> bool:
        """Whether it may still write to its output folder: it is alive, or a local job of another machine."""
        return self.state in ALIVE or (self.job.executor == "local" and self.state == "unknown")

    @property
    def log(self) -> Path:
        """Log of the first task, which has the output of the stage."""
        return log_of(self.job)


def all_jobs(folder: Path) -> list[Job]:
    """Jobs submitted with that `slurm.folder`, oldest first."""
    found = [Job.load(path.parent) for path in folder.glob(f"*/{JOB_NAME}")]
    return sorted(found, key=lambda job: job.submitted)


def find_jobs(folder: Path, job_id: str) -> list[Job]:
    """Job with that id, or all jobs of that array. Raises EmixerError if there is none."""
    found = [job for job in all_jobs(folder) if job_id in (job.job_id, job.array_id)]
    if not found:
        raise EmixerError(
            f"There is no job {job_id} in {folder}. `python -m jobs status` lists them; --folder names another folder."
        )
    return found


def statuses(jobs: Sequence[Job]) -> list[JobStatus]:
    """Status of each job, in the same order. Raises EmixerError when SLURM does not answer."""
    asked = [job.job_id for job in jobs if job.executor == "slurm"]
    if not asked:
        return [_status(job, None, None) for job in jobs]
    if (why_not := _why_unknown(jobs)) is not None:
        return [_status(job, None, None, why_not) for job in jobs]
    with slurms_words():
        queued = {job.job_id: job for job in slurm.my_jobs()}
    said_nothing = (job for job in jobs if read_state(state_folder(job)).get("state") not in _SAID)
    forgotten = [job.job_id for job in said_nothing if job.executor == "slurm" and job.job_id not in queued]
    states = slurm.accounted(forgotten)
    return [_status(job, queued.get(job.job_id), states.get(job.job_id)) for job in jobs]


def _why_unknown(jobs: Sequence[Job]) -> str | None:
    """Why the SLURM of these jobs, which share a folder, cannot be asked here; None if it can."""
    if shutil.which("squeue") is None:
        return "no squeue on this machine: run status on a login node"
    with slurms_words():
        names = identity.elsewhere(Path(jobs[0].folder).parent)
    return None if names is None else f"on the SLURM cluster {names[0]}, not {names[1]}: run status there"


def latest(found: Sequence[JobStatus]) -> list[JobStatus]:
    """Jobs that have not ended, and the latest of those that have."""
    over = [status for status in found if status.state not in ALIVE]
    shown = {status.job.job_id for status in over[-_OVER_SHOWN:]}
    return [status for status in found if status.state in ALIVE or status.job.job_id in shown]


def cancel(jobs: Sequence[Job]) -> None:
    """Cancel jobs; jobs that wait for them stay pending, with SLURM's reason. Raises EmixerError if refused."""
    alive = [found.job for found in statuses(jobs) if found.state in ALIVE]
    if not alive:
        raise EmixerError(f"Job {jobs[0].job_id} has ended or runs on another machine: nothing to cancel here.")
    for job in alive:
        if job.executor == "local":
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(int(job.job_id), signal.SIGTERM)
    queued = [job for job in alive if job.executor == "slurm"]
    _require_ours(queued)
    named = _as_arrays(queued, jobs)
    marks = [Path(job.folder) / TAKEN_BACK for job in queued]
    for mark in marks:
        with suppress(OSError):  # a full disk: the jobs are cancelled all the same
            mark.touch()  # before SLURM ends them: they check for it before they request a requeue
    try:
        with slurms_words():
            slurm.cancel(named)
    except EmixerError:
        for mark in marks:
            mark.unlink(missing_ok=True)
        raise


def _as_arrays(alive: Sequence[Job], asked: Sequence[Job]) -> list[str]:
    """Ids of the jobs that are alive, or of arrays of which all jobs were asked for: SLURM may take longer over a
    thousand ids than it is given."""
    ids = {job.job_id for job in asked}
    cut = {job.array_id for job in all_jobs(Path(asked[0].folder).parent) if job.job_id not in ids}
    named = (job.job_id if job.array_id in cut else job.array_id or job.job_id for job in alive)
    return list(dict.fromkeys(named))


def _require_ours(jobs: Sequence[Job]) -> None:
    """Raise EmixerError if SLURM has given the number of one of these jobs to another."""
    with slurms_words():
        comments = {job.job_id: job.comment for job in slurm.my_jobs()} if jobs else {}
    for job in jobs:
        comment = comments.get(job.job_id, COMMENT)
        if not comment.startswith(COMMENT):
            raise EmixerError(
                f"Job {job.job_id} is another job now: its comment is {comment!r}, not {COMMENT}{job.stage}. Nothing "
                f"was cancelled; if it is the job you mean, e.g. as your site changes comments: scancel {job.job_id}"
            )


def _status(
    job: Job, queued: slurm.QueuedJob | None, accounted: str | None, why_unknown: str | None = None
) -> JobStatus:  # fmt: skip
    said = read_state(state_folder(job))
    if queued is not None and not queued.is_over:
        state = queued.state.lower()
        if state == "pending":
            return JobStatus(job, state, in_words(queued.reason))
        if state in _HELD:
            return JobStatus(job, state, f"{_HELD[state]}: scontrol release {job.job_id}, or cancel it")
        left = "" if queued.seconds_left is None else f", {_duration(queued.seconds_left)} left"
        return JobStatus(job, state, f"{queued.node}{left}")
    if said.get("state") in _SAID:
        note = str(said.get("error") or said.get("summary") or "").splitlines()
        return JobStatus(job, said["state"], note[0] if note else "")
    if job.executor == "local" and job.host not in ("", socket.gethostname()):
        return JobStatus(job, "unknown", f"on {job.host}: run status there")
    if job.executor == "local":
        alive = _is_running(job)
        return JobStatus(job, "running" if alive else "gone", "" if alive else "ended without a message")
    if why_unknown is not None:
        return JobStatus(job, "unknown", why_unknown)
    over = accounted if queued is None else queued.state
    if over is not None:
        return JobStatus(job, over.lower(), _ENDS.get(over, ""))
    if (Path(job.folder) / TAKEN_BACK).exists():
        return JobStatus(job, "cancelled", "")
    return JobStatus(job, "gone", "unknown to SLURM, and no record that it finished")


def _is_running(job: Job) -> bool:
    """Whether the process of a local job is alive: its id, the jobs folder in the command line, and not a zombie."""
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
            folder = RunFolder(run)
            last = folder.last_metrics()
            config = folder.config
        except EmixerError:
            return ""
        images = config.train.images if job.stage == "train" else config.encoder.images
        return f"{last['images']:,} of {images:,} images" if last else ""
    if job.stage == "tune":
        return f"{len(list(run.glob(TRIALS))):,} trials started"
    if job.stage == "generate":
        return f"{len(list(run.glob('data/*.parquet'))):,} files"
    if job.stage == "experiment":
        cells = len(list(run.glob("cells/*.json")))
        return f"{cells:,} cells" if cells else ""
    return ""


def table(found: Sequence[JobStatus], now: float | None = None) -> str:
    """Format the status of jobs as a table for a terminal."""
    if not found:
        return "No jobs."
    header = ("job", "stage", "state", "submitted", "progress", "")
    rows = [
        (
            status.job.job_id,
            f"{status.job.stage} {status.job.label}".strip(),
            status.state,
            f"{_duration((time.time() if now is None else now) - status.job.submitted)} ago",
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


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def summary(status: JobStatus) -> dict[str, Any]:
    """Status of one job as JSON content."""
    return {
        "job": status.job.job_id, "stage": status.job.stage, "label": status.job.label, "state": status.state,
        "note": status.note, "progress": status.progress, "log": str(status.log), "run": status.job.run,
    }  # fmt: skip
