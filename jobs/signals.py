"""SLURM's signals: whose they are, and what they mean."""

import signal
import subprocess


def ignore_warnings() -> None:
    """For a child, before it begins: where SLURM tracks processes without cgroups, its warning reaches every process of
    the job, and would end those that do not expect it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def is_running(job_id: str) -> bool:
    """Whether SLURM counts the job as running. It does in the grace time of a preemption, and not after scancel."""
    ask = ["squeue", "-h", "-j", job_id, "-o", "%T"]
    return subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip() == "RUNNING"
