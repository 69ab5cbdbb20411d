"""SLURM's signals: whose they are, and what they mean."""

import signal
import subprocess


def ignore_warnings() -> None:
    """For a child, before it begins: where SLURM tracks processes without cgroups, its warning reaches every process of
    the job, and would end those that do not expect it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def state_of(job_id: str) -> str | None:
    """SLURM's word for the job, e.g. RUNNING; "" if it does not know the job, None if it did not answer."""
    ask = ["squeue", "-h", "-j", job_id, "-t", "all", "-o", "%T"]
    try:
        shown = subprocess.run(ask, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if shown.returncode:
        return "" if "Invalid job id" in shown.stderr else None
    return shown.stdout.strip()


def is_cancelled(job_id: str) -> bool:
    """Whether the job was taken back, and not only interrupted."""
    return (state_of(job_id) or "").startswith("CANCELLED")


def is_over(job_id: str) -> bool:
    """Whether the job will surely not run again; False where SLURM did not answer."""
    state = state_of(job_id)
    return state is not None and state.split("+")[0] in _OVER


_OVER = ("", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
