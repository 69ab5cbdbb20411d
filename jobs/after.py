"""Checks of the jobs that a new job waits for. SLURM forgets a job some minutes after it ends (MinJobAge), and then
treats a dependency on it as satisfied, however it ended."""

from collections.abc import Sequence
from pathlib import Path

from cluster import slurm
from emixer.errors import ConfigError
from jobs.run_stage import read_state
from jobs.status import all_jobs
from jobs.submit import CLUSTER_FOLDER, slurms_words

_DONE = "COMPLETED"


def require_awaited(job_ids: Sequence[str], folder: Path) -> None:
    """Raise ConfigError for a job that has failed or whose outcome is unknown, EmixerError when SLURM does not answer.
    folder: `slurm.folder`, where jobs record how they ended."""
    for job_id in job_ids:
        for name, state in _states(job_id, folder).items():
            if state is None:
                raise ConfigError(
                    f"--after {job_id}: SLURM no longer knows job {name} and there is no record that it finished, so "
                    "the new job would start at once. If its output is complete, submit without --after."
                )
            if slurm.is_end(state) and state != _DONE:
                raise ConfigError(
                    f"--after {job_id}: job {name} ended as {state.lower()}, so the new job would never start. "
                    "Submit that job again, and use its new id."
                )


def _states(job_id: str, folder: Path) -> dict[str, str | None]:
    """SLURM state of the job, or of each job of an array, from squeue, from accounting, or from the job's own record;
    None if unknown."""
    ours = [job.job_id for job in all_jobs(folder) if job_id in (job.job_id, job.array_id)]
    with slurms_words():
        queued = slurm.states_of(job_id)
    names = dict.fromkeys([*ours, *queued]) or {job_id: None}
    accounted = slurm.accounted([name for name in names if name not in queued])
    return {name: queued.get(name) or accounted.get(name) or _said(folder, name) for name in names}


def _said(folder: Path, job_id: str) -> str | None:
    said = read_state(folder / CLUSTER_FOLDER / job_id).get("state")
    return {"finished": _DONE, "failed": "FAILED"}.get(str(said))
