"""Which of a user's jobs belong to a cluster. Their comments say so, and nothing else remembers it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.slurm import QueuedJob

HEAD, CLEANUP = "head", "cleanup"
"""Kinds of jobs that are no workers."""


@dataclass(frozen=True)
class RegisteredJob:
    """A job of a cluster."""

    job: QueuedJob
    attempt: str
    """Which start of the cluster it belongs to."""
    kind: str
    """Type of node, or HEAD or CLEANUP."""
    request: str
    """Of the autoscaler, for a worker."""

    @property
    def is_worker(self) -> bool:
        """Whether it is a node that the autoscaler asked for."""
        return self.kind not in (HEAD, CLEANUP)


def key_of(home: Path) -> str:
    """By what a cluster's jobs are known: its name, and which folder it lives in."""
    return f"{home.name}.{hashlib.sha256(str(home).encode()).hexdigest()[:6]}"


def comment(cluster: str, attempt: str, kind: str, request: str = "-") -> str:
    """What is written into --comment. cluster: its `key_of`."""
    return f"ray:{cluster}:{attempt}:{kind}:{request}"


def registered_jobs(jobs: Sequence[QueuedJob], cluster: str, attempt: str | None = None) -> list[RegisteredJob]:
    """Those of `jobs` that belong to the cluster (its `key_of`), over or not. attempt: only those of that start."""
    found = []
    for job in jobs:
        parts = job.comment.split(":")
        if len(parts) == 5 and parts[:2] == ["ray", cluster] and attempt in (None, parts[2]):
            found.append(RegisteredJob(job, *parts[2:]))
    return found
