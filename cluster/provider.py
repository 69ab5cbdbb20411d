"""Ray's autoscaler (v2) asks for nodes; here they become jobs of SLURM.

Nothing is remembered that squeue does not know: the comment of each job says to which cluster, type and request it
belongs, so a provider that starts anew finds its nodes again. Loaded by Ray through `provider: {type: external}`.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_LAUNCH_REQUEST,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from cluster import slurm
from cluster.diary import Diary
from cluster.errors import ClusterError
from cluster.meeting import is_to_be_replaced
from cluster.members import HEAD, Member, comment, members
from cluster.slurm import QueuedJob, SlurmRefusalError, SlurmSilenceError

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
"""How often the autoscaler looks for demand. Ray's own setting knows whole seconds only."""
_FIRST_BACKOFF_S, _MOST_BACKOFF_S = 5.0, 300.0


@dataclass
class _Refusal:
    words: str
    wait_s: float
    until: float


@dataclass
class _Jobs:
    """The cluster's jobs as last seen, with those submitted since. Safe for threads."""

    cluster: str
    attempt: str
    poll_s: float
    known: dict[str, Member] = field(default_factory=dict)
    submitted_at: dict[str, float] = field(default_factory=dict)
    asked_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> dict[str, Member]:
        """Jobs by id that are not over. Asks SLURM when the last look is old; without an answer, nothing has changed.

        Raises SlurmSilenceError if SLURM has never answered.
        """
        now = time.monotonic()
        if self.asked_at is None or now - self.asked_at >= self.poll_s:
            try:
                shown = [m for m in members(slurm.my_jobs(), self.cluster, self.attempt) if m.is_worker]
            except SlurmSilenceError as error:
                if self.asked_at is None:
                    raise
                logger.warning("%s; the jobs are taken to be as they were", error.message)
                self.asked_at = now
            else:
                self._take(shown, now)
        with self.lock:
            return dict(self.known)

    def add(self, worker: Member) -> None:
        """A job that was just submitted: squeue may have been asked before it was there."""
        with self.lock:
            self.known[worker.job.job_id] = worker
            self.submitted_at[worker.job.job_id] = time.monotonic()

    def look_soon(self) -> None:
        """Something was changed: the next look asks SLURM."""
        if self.asked_at is not None:
            self.asked_at = -self.poll_s

    def _take(self, shown: list[Member], asked_at: float) -> None:
        alive = {worker.job.job_id: worker for worker in shown if not worker.job.is_over}
        there = {worker.job.job_id for worker in shown}
        with self.lock:
            newer = {
                job_id: self.known[job_id]
                for job_id, at in self.submitted_at.items()
                if at >= asked_at and job_id not in there
            }
            self.submitted_at = {job_id: self.submitted_at[job_id] for job_id in newer}
            self.known = alive | newer
            self.asked_at = asked_at


class SlurmNodeProvider(NodeProvider):  # type: ignore[misc]
    """Nodes of a Ray cluster as jobs of one node each. The id of a node is that of its job."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._attempt = str(provider_config["attempt"])
        self._types: Mapping[str, dict[str, Any]] = provider_config["node_types"]
        self._home = Path(provider_config["folder"])
        self._diary = Diary(self._home)
        self._jobs = _Jobs(cluster_name, self._attempt, float(provider_config["poll_s"]))
        self._launching: dict[str, int] = {}
        self._launch_lock = threading.Lock()
        self._refused: dict[str, _Refusal] = {}
        self._last: dict[str, Member] = {}
        self._replaced: set[str] = set()
        self._looked_at = 0.0

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Nothing to prepare."""
        return cluster_config

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Ids of jobs that are pending, running or suspended, and of the head. Called once a look of the autoscaler."""
        time.sleep(max(0.0, self._looked_at + _LOOK_EVERY_S - time.monotonic()))
        self._looked_at = time.monotonic()
        self._replace_leaving()
        self._last = {i: w for i, w in self._jobs.look().items() if not w.job.is_leaving}
        return [HEAD, *(i for i in self._last if tag_filters.items() <= self.node_tags(i).items())]

    def is_running(self, node_id: str) -> bool:
        """Whether its job has started."""
        return node_id == HEAD or (node_id in self._last and self._last[node_id].job.state == "RUNNING")

    def is_terminated(self, node_id: str) -> bool:
        """Whether its job is over."""
        return node_id != HEAD and node_id not in self._last

    def node_tags(self, node_id: str) -> dict[str, str]:
        """Kind, type and request, from the job's comment."""
        if node_id == HEAD:
            return {
                TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: HEAD, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
            }  # fmt: skip
        worker = self._last[node_id]
        return {
            TAG_RAY_NODE_KIND: NODE_KIND_WORKER,
            TAG_RAY_USER_NODE_TYPE: worker.kind,
            TAG_RAY_LAUNCH_REQUEST: worker.request,
            TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE,
        }

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        """The tags of a job never change."""

    def internal_ip(self, node_id: str) -> str:
        """Not known here: nodes tell Ray their addresses themselves."""
        return ""

    def external_ip(self, node_id: str) -> str:
        """Not known here."""
        return ""

    def create_node_with_resources_and_labels(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int, resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:  # fmt: skip
        """Submits `count` jobs of a type. Raises SlurmRefusalError, in SLURM's words, or when the type's max is
        reached."""
        node_type, request = tags[TAG_RAY_USER_NODE_TYPE], tags[TAG_RAY_LAUNCH_REQUEST]
        for _ in range(count):
            self._launch(node_type, request)

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> None:
        """The same, as older callers have it."""
        self.create_node_with_resources_and_labels(node_config, tags, count, {}, {})

    def terminate_node(self, node_id: str) -> None:
        """Takes its job back."""
        self.terminate_nodes([node_id])

    def terminate_nodes(self, node_ids: list[str]) -> None:
        """Takes their jobs back; never that of the head."""
        jobs = [node_id for node_id in node_ids if node_id != HEAD]
        slurm.cancel(jobs)
        for job_id in jobs:
            worker = self._last.get(job_id)
            self._diary.note("released", worker.kind if worker else "", f"job {job_id}")
        self._jobs.look_soon()

    def _replace_leaving(self) -> None:
        """Asks for another node for each that will soon be taken from its work: what runs there is no demand yet, and
        would only be so when it has died."""
        for job_id, worker in self._jobs.look().items():
            if job_id in self._replaced or not is_to_be_replaced(self._home, job_id):
                continue
            try:
                self._launch(worker.kind, f"for-{job_id}")
            except ClusterError as error:
                logger.info("No replacement for job %s yet: %s", job_id, error.message)
            else:
                self._replaced.add(job_id)

    def _launch(self, node_type: str, request: str) -> None:
        """One job, if the type's max allows it."""
        self._reserve(node_type)
        try:
            self._submit(node_type, request)
        finally:
            with self._launch_lock:
                self._launching[node_type] -= 1

    def _reserve(self, node_type: str) -> None:
        """Takes one of the places that the type's max leaves. Jobs that are leaving still hold theirs."""
        alive = sum(worker.kind == node_type for worker in self._jobs.look().values())
        with self._launch_lock:
            launching, limit = self._launching.get(node_type, 0), self._types[node_type]["max"]
            if alive + launching >= limit:
                raise SlurmRefusalError(f"{node_type} has its max of {limit} jobs, those included that are leaving")
            refusal = self._refused.get(node_type)
            if refusal is not None and time.monotonic() < refusal.until:
                raise SlurmRefusalError(refusal.words)
            self._launching[node_type] = launching + 1

    def _submit(self, node_type: str, request: str) -> None:
        said = comment(self.cluster_name, self._attempt, node_type, request)
        try:
            asked = self._types[node_type]
            job_id = slurm.submit(asked["script"], [*asked["options"], f"--comment={said}"])
        except SlurmRefusalError as error:
            self._note_refusal(node_type, error.message)
            raise
        self._refused.pop(node_type, None)
        job = QueuedJob(job_id, "PENDING", "None", None, "", "N/A", said)
        self._jobs.add(Member(job, self._attempt, node_type, request))
        self._diary.note("asked", node_type, f"job {job_id}" + (f" {request}" if request.startswith("for-") else ""))

    def _note_refusal(self, node_type: str, words: str) -> None:
        """The next try waits, longer each time. Several jobs that are refused at once count as one."""
        with self._launch_lock:
            before, now = self._refused.get(node_type), time.monotonic()
            if before is not None and now < before.until:
                return
            wait_s = _FIRST_BACKOFF_S if before is None else min(2 * before.wait_s, _MOST_BACKOFF_S)
            self._refused[node_type] = _Refusal(words, wait_s, now + wait_s)
        self._diary.note("refused", node_type, words)
