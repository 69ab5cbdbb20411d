"""The jobs of a cluster as squeue last showed them, with those submitted since. Used by several threads."""

import logging
import threading
import time
from collections import Counter
from dataclasses import replace

from cluster import slurm
from cluster.slurm import QueuedJob, SlurmSilenceError
from cluster.slurm.job_registry import RegisteredJob, registered_jobs

logger = logging.getLogger(__name__)
_EARLIER_S = 60.0
"""By how much the end of a job has to come nearer to be a preemption."""
_HARMLESS_ENDS = ("COMPLETED", "CANCELLED", "PREEMPTED", "TIMEOUT", "REVOKED")
"""Ends that say nothing against the type of a job."""


class JobCache:
    """Of one start of a cluster. Without an answer of SLURM, nothing has changed."""

    def __init__(self, cluster: str, attempt: str, poll_s: float) -> None:
        self._cluster, self._attempt, self._poll_s = cluster, attempt, poll_s
        self._known: dict[str, RegisteredJob] = {}
        self._over: dict[str, RegisteredJob] = {}
        self._submitted_at: dict[str, float] = {}
        self._first_seen: dict[str, float] = {}
        self._latest_end: dict[str, float] = {}
        self._reserved: Counter[str] = Counter()
        self._answered_at: float | None = None
        self._ask_again_at = 0.0
        self._distrusted_at: float | None = None
        self._lock = threading.Lock()
        self._asking = threading.Lock()

    def look(self) -> dict[str, RegisteredJob]:
        """Jobs by id that are not over. Asks SLURM when the last look is old, one thread at a time.

        Raises SlurmSilenceError if SLURM has never answered.
        """
        with self._asking:
            now = time.monotonic()
            if now >= self._ask_again_at:
                self._ask_again_at = now + self._poll_s
                try:
                    shown = slurm.my_jobs()
                except SlurmSilenceError as error:
                    if self._answered_at is None:
                        self._ask_again_at = 0.0
                        raise
                    logger.warning("%s; the jobs are taken to be as they were", error.message)
                else:
                    self._take(shown, now)
        with self._lock:
            return dict(self._known)

    def look_soon(self) -> None:
        """Something was changed: the next look asks SLURM."""
        self._ask_again_at = 0.0

    def reserve(self, node_type: str, limit: int) -> bool:
        """Takes one of the places that `limit` leaves, if there is one. Jobs that are leaving still hold theirs.

        False also while it is not known what there is.
        """
        self.look()
        with self._lock:
            if self._distrusted_at is not None:
                return False
            alive = sum(registered.kind == node_type for registered in self._known.values())
            if alive + self._reserved[node_type] >= limit:
                return False
            self._reserved[node_type] += 1
            return True

    def settle(self, node_type: str, registered: RegisteredJob | None) -> None:
        """Gives a reserved place to the job that was submitted, or back."""
        now = time.monotonic()
        with self._lock:
            self._reserved[node_type] -= 1
            if registered is not None:
                job_id = registered.job.job_id
                self._known[job_id] = registered
                self._submitted_at[job_id] = self._first_seen[job_id] = now

    def distrust(self) -> None:
        """A job may have been submitted that is not known: nothing is reserved until SLURM has been asked."""
        with self._lock:
            self._distrusted_at = time.monotonic()
        self.look_soon()

    def age_s(self, job_id: str) -> float:
        """Since the job was submitted, or first seen."""
        with self._lock:
            return time.monotonic() - self._first_seen.get(job_id, time.monotonic())

    def requests(self) -> set[str]:
        """What its jobs were submitted for, those included that are over."""
        with self._lock:
            return {registered.request for registered in (*self._known.values(), *self._over.values())}

    def failed(self) -> list[RegisteredJob]:
        """Jobs that came to a bad end, which another of their type may meet too."""
        with self._lock:
            return [registered for registered in self._over.values() if registered.job.state not in _HARMLESS_ENDS]

    def running(self) -> dict[str, RegisteredJob]:
        """Jobs by id that have started."""
        with self._lock:
            return {
                job_id: registered for job_id, registered in self._known.items() if registered.job.state == "RUNNING"
            }

    def ending_early(self) -> list[str]:
        """Running jobs whose end has come nearer: they are being preempted."""
        with self._lock:
            return [
                job_id for job_id, registered in self._known.items()
                if registered.job.state == "RUNNING" and registered.job.ends is not None
                and self._latest_end.get(job_id, registered.job.ends) - registered.job.ends > _EARLIER_S
            ]  # fmt: skip

    def _take(self, jobs: list[QueuedJob], asked_at: float) -> None:
        shown = {
            registered.job.job_id: registered
            for registered in registered_jobs(jobs, self._cluster, self._attempt)
            if registered.is_worker
        }
        by_id = {job.job_id: job for job in jobs}
        with self._lock:
            # a site may change comments: what we have submitted is ours whatever it is called
            for job_id, registered in self._known.items():
                if job_id in by_id and job_id not in shown:
                    shown[job_id] = replace(registered, job=by_id[job_id])
            newer = {
                job_id: self._known[job_id]
                for job_id, at in self._submitted_at.items()
                if at >= asked_at and job_id not in shown and job_id in self._known
            }
            for job_id, registered in shown.items():
                self._first_seen.setdefault(job_id, asked_at)
                if registered.job.state == "RUNNING" and registered.job.ends is not None:
                    self._latest_end[job_id] = max(registered.job.ends, self._latest_end.get(job_id, 0.0))
            self._over = {job_id: registered for job_id, registered in shown.items() if registered.job.is_over}
            self._known = {
                job_id: registered for job_id, registered in shown.items() if not registered.job.is_over
            } | newer
            self._submitted_at = {job_id: self._submitted_at[job_id] for job_id in newer}
            self._answered_at = asked_at
            if self._distrusted_at is not None and asked_at > self._distrusted_at:
                self._distrusted_at = None
