"""Cancels the remaining jobs of a cluster whose head is gone: python -m cluster.cleanup HOME ATTEMPT

Run by the shell around the head when it ends for whatever reason, by a worker that misses its head, and by a small job
that SLURM starts when the head's job is over: one of them is always left to do it.
"""

import os
import sys
import time
from pathlib import Path

from cluster import rendezvous, slurm
from cluster.errors import ClusterError
from cluster.output import say
from cluster.slurm.job_registry import key_of, registered_jobs

_TRIES, _PAUSE_S = 10, 3.0


def cancel_all(home: Path, attempt: str | None = None, but: str | None = None) -> int | None:
    """Cancels the jobs of the cluster, or those of one start of it; `but` is left. Returns how many there were.

    A SLURM that does not answer is asked again; None if it never did: what is left ends by itself when it misses the
    head.
    """
    for tried in range(_TRIES):
        try:
            left = [
                registered.job.job_id
                for registered in registered_jobs(slurm.my_jobs(), key_of(home), attempt)
                if not registered.job.is_over and not registered.job.is_leaving and registered.job.job_id != but
            ]
            slurm.cancel(left)
        except ClusterError as error:
            say(f"{error.message}; tried {tried + 1} of {_TRIES} times")
            time.sleep(_PAUSE_S)
        else:
            return len(left)
    return None


if __name__ == "__main__":
    folder, own_attempt = Path(sys.argv[1]), sys.argv[2]
    head = rendezvous.find(folder)
    if head is None or head.attempt == own_attempt:  # else another start of the cluster has the folder now
        rendezvous.withdraw(folder)
    rendezvous.forget_token(folder, own_attempt)
    taken = cancel_all(folder, own_attempt, but=os.environ.get("SLURM_JOB_ID"))
    say("SLURM never answered." if taken is None else f"{taken} jobs cancelled.")
