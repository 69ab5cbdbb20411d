"""Ray's autoscaler (v2) asks for nodes; here they become jobs of SLURM.

What there is, squeue says: the comment of each job names its cluster, type and request, so a provider that starts anew
finds its nodes again. Loaded by Ray through `provider: {type: external}`; Ray calls it from several threads.
"""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
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

from cluster import files, rendezvous, slurm
from cluster.event_log import EventLog
from cluster.head.job_cache import JobCache
from cluster.node.drain import tell_ray
from cluster.node.ray_state import living_nodes, waiting_bundles
from cluster.slurm import QueuedJob, SlurmRefusalError, SlurmSilenceError
from cluster.slurm.job_registry import HEAD, RegisteredJob, comment

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
"""How often the autoscaler looks for demand. Ray's own setting knows whole seconds only."""
_MIN_PAUSE_S = 0.05
"""Between two looks, should Ray's loop not pause after all."""
_INTERVAL = "AUTOSCALER_UPDATE_INTERVAL_S"
"""What the module of Ray's loop calls its pause [s]."""
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 5.0, 300.0
_HOLD_S = 100.0
"""How long a request that cannot be met now is held: Ray takes it for pending so long, and asks for nothing more. Each
refusal would leave a row in Ray's tables for ever."""
_AVOID_S = 600.0
"""How long a type is avoided whose job was pending for too long."""
_MIN_AVOIDED_S = 60.0
"""How long one that was refused is avoided at least."""
_ASK_RAY_EVERY_S = 2.0
_SETTLED_S = 60.0
"""A job that fails before Ray has had its node for so long never worked."""


@dataclass(frozen=True)
class _Refusal:
    words: str
    wait_s: float
    at: float

    @property
    def until(self) -> float:
        """When the type is tried again."""
        return self.at + self.wait_s

    @property
    def avoided_until(self) -> float:
        """So long other types are asked for, where there are others."""
        return self.at + max(self.wait_s, _MIN_AVOIDED_S)


def _let_ray_pause() -> bool:
    """Has Ray's loop itself pause between two looks: it asks what waits first and what nodes there are then, so that a
    pause in the answer to the second makes the first one old. False where the loop knows no such setting."""
    loop = sys.modules["__main__"]
    if not hasattr(loop, _INTERVAL):
        return False
    setattr(loop, _INTERVAL, _LOOK_EVERY_S)
    return True


class SlurmNodeProvider(NodeProvider):  # type: ignore[misc]
    """Nodes of a Ray cluster as jobs of one node each. The id of a node is that of its job."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._attempt = str(provider_config["attempt"])
        self._types: Mapping[str, dict[str, Any]] = provider_config["node_types"]
        self._home = Path(provider_config["folder"])
        self._address: str = provider_config["address"]
        self._pending_timeout_s: float | None = provider_config["pending_timeout_s"]
        self._events = EventLog(self._home)
        self._jobs = JobCache(str(provider_config["key"]), self._attempt, float(provider_config["poll_s"]))
        self._refused: dict[str, _Refusal] = {}
        self._refusing = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._asking = threading.Lock()
        self._avoided_until: dict[str, float] = {}
        self._limits = {name: int(node_type["max"]) for name, node_type in self._types.items()}
        self._failed: set[str] = set()
        self._settled: set[str] = set()
        self._alive_since: dict[str, float] = {}
        self._warned: set[str] = set()
        self._not_replaced: set[str] = set()
        self._looked_at = self._ask_ray_at = self._ask_settled_at = 0.0
        self._pause_s = _MIN_PAUSE_S if _let_ray_pause() else _LOOK_EVERY_S
        self._waits: list[dict[str, float]] = []
        self._last: dict[str, RegisteredJob] = {}

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Nothing to prepare."""
        return cluster_config

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Ids of jobs that are pending, running or suspended, and of the head. Called once a look of the autoscaler."""
        time.sleep(max(0.0, self._looked_at + self._pause_s - time.monotonic()))
        self._looked_at = time.monotonic()
        known = self._jobs.look()
        self._learn_from_failures()
        self._cancel_held(known)
        self._warn_preempted(known)
        self._replace_leaving(known)
        self._give_up_pending(known)
        self._set_limits()
        self._last = {job_id: worker for job_id, worker in self._jobs.look().items() if not worker.job.is_leaving}
        return [HEAD, *(job_id for job_id in self._last if tag_filters.items() <= self.node_tags(job_id).items())]

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
        """Submits `count` jobs of a type, each when there is a place for it and no refusal to wait for.

        Raises SlurmRefusalError, in SLURM's words, or when there was no place for long.
        """
        node_type, request = tags[TAG_RAY_USER_NODE_TYPE], tags[TAG_RAY_LAUNCH_REQUEST]
        for _ in range(count):
            with self._being_asked(node_type):
                end = time.monotonic() + _HOLD_S
                while (why_not := self._launch(node_type, request)) is not None:
                    if time.monotonic() > end:
                        raise SlurmRefusalError(why_not)
                    time.sleep(_LOOK_EVERY_S)

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
            self._events.note("released", worker.kind if worker else "", f"job {job_id}")
        self._jobs.look_soon()

    # Launching

    @contextmanager
    def _being_asked(self, node_type: str) -> Iterator[None]:
        """Counts a request of Ray's that has no job yet."""
        with self._asking:
            self._asked[node_type] += 1
        try:
            yield
        finally:
            with self._asking:
                self._asked[node_type] -= 1

    def _launch(self, node_type: str, request: str) -> str | None:
        """Submits one job, if it may be now. Returns why not. Raises SlurmRefusalError when SLURM says no."""
        refusal = self._refused.get(node_type)
        if refusal is not None and time.monotonic() < refusal.until:
            return refusal.words
        if node_type in self._closed():
            return f"{node_type} is closed for a while: see the events of `python -m cluster status`"
        asked = self._types[node_type]
        if not self._jobs.reserve(node_type, asked["max"]):
            return f"{node_type} has its max of {asked['max']} jobs, those included that are leaving"
        registered: RegisteredJob | None = None
        try:
            said = comment(str(self.provider_config["key"]), self._attempt, node_type, request)
            job_id = slurm.submit(asked["script"], [*asked["options"], f"--comment={said}"])
            job = QueuedJob(job_id, "PENDING", "None", None, "", "N/A", None, said)
            registered = RegisteredJob(job, self._attempt, node_type, request)
        except SlurmRefusalError as error:
            self._refuse(node_type, error.message)
            raise
        except SlurmSilenceError:
            self._jobs.distrust()  # the job may be there all the same: nothing is submitted before squeue has answered
            raise
        finally:
            self._jobs.settle(node_type, registered)
        self._events.note("asked", node_type, f"job {job_id}" + (f" {request}" if request.startswith("for-") else ""))
        return None

    def _refuse(self, node_type: str, words: str) -> None:
        """The next try waits, longer each time. Several jobs that are refused at once count as one."""
        with self._refusing:
            before, now = self._refused.get(node_type), time.monotonic()
            if before is not None and now < before.until:
                return
            wait_s = _FIRST_BACKOFF_S if before is None else min(2 * before.wait_s, _MAX_BACKOFF_S)
            self._refused[node_type] = _Refusal(words, wait_s, now)
        self._events.note("refused", node_type, words)

    def _learn_from_failures(self) -> None:
        """A type whose jobs fail before they have settled is asked for less and less often; one of which a job that was
        asked for since has settled, as ever."""
        self._note_settled()
        for worker in self._jobs.failed():
            job_id = worker.job.job_id
            if job_id not in self._failed | self._settled:
                self._failed.add(job_id)
                log = self._home / "logs" / f"{job_id}-{worker.kind}.out"
                self._refuse(worker.kind, f"job {job_id} ended as {worker.job.state} before it was of use; see {log}")
        for job_id, worker in self._jobs.running().items():
            refusal = self._refused.get(worker.kind)
            asked_at = time.monotonic() - self._jobs.age_s(job_id)
            if refusal is not None and job_id in self._settled and asked_at > refusal.at:
                del self._refused[worker.kind]

    def _cancel_held(self, known: Mapping[str, RegisteredJob]) -> None:
        """A job that SLURM holds after a failure would take a place of its type for ever."""
        held = {job_id: worker for job_id, worker in known.items() if worker.job.is_held_for_failure}
        for job_id, worker in held.items():
            if job_id not in self._failed | self._settled:
                self._failed.add(job_id)
                why = worker.job.reason if worker.job.state == "PENDING" else worker.job.state
                self._refuse(worker.kind, f"job {job_id} could not be started and was cancelled: {why}")
        try:
            slurm.cancel(list(held))
        except SlurmSilenceError as error:
            logger.warning("Jobs that are held are not cancelled yet: %s", error.message)
        if held:
            self._jobs.look_soon()

    def _note_settled(self) -> None:
        """Ray is asked: a job that runs may be looking for the head, or starting Ray for the third time."""
        now, starting = time.monotonic(), self._jobs.running().keys() - self._settled
        if not starting or now < self._ask_settled_at:
            return
        self._ask_settled_at = now + _ASK_RAY_EVERY_S
        living = living_nodes(self._address)
        if living is not None:
            self._alive_since = {job_id: self._alive_since.get(job_id, now) for job_id in starting & living}
            self._settled |= {job_id for job_id, since in self._alive_since.items() if now - since >= _SETTLED_S}

    # Nodes that will soon be taken from their work

    def _warn_preempted(self, known: Mapping[str, RegisteredJob]) -> None:
        """SLURM tells a batch job of its preemption only at the end of its grace time; squeue shows it before."""
        for job_id in self._jobs.ending_early():
            if job_id not in self._warned and job_id in known:
                self._warned.add(job_id)
                threading.Thread(target=self._drain, args=(known[job_id],), daemon=True).start()

    def _drain(self, worker: RegisteredJob) -> None:
        job_id, ends = worker.job.job_id, worker.job.ends
        left_s = 30 if ends is None else max(5, int(ends - time.time() - 5))
        self._events.note("draining", worker.kind, f"job {job_id}, preempted, {left_s} s left")
        is_busy, words = tell_ray(self._address, job_id, left_s, {})
        logger.info("Job %s is being preempted: %s", job_id, words)
        if is_busy:
            rendezvous.ask_to_replace(self._home, job_id)

    def _replace_leaving(self, known: Mapping[str, RegisteredJob]) -> None:
        """Asks for another node for each that will soon be taken from its work: what runs there is no demand yet, and
        would only be so when it has died."""
        replaced = self._jobs.requests()
        for job_id in rendezvous.to_be_replaced(self._home):
            if job_id not in known or f"for-{job_id}" in replaced or job_id in self._not_replaced:
                continue
            try:
                self._launch(known[job_id].kind, f"for-{job_id}")
            except SlurmRefusalError as error:
                self._not_replaced.add(job_id)
                logger.info("No replacement for job %s: %s", job_id, error.message)
            except SlurmSilenceError as error:  # squeue will show whether the job is there; if not, once more
                logger.info("No replacement for job %s yet: %s", job_id, error.message)

    # Types that are avoided for a while

    def _give_up_pending(self, known: Mapping[str, RegisteredJob]) -> None:
        if self._pending_timeout_s is None:
            return
        for node_type in self._types:
            late = [
                job_id for job_id, worker in known.items()
                if worker.kind == node_type and worker.job.state == "PENDING"
                and self._jobs.age_s(job_id) > self._pending_timeout_s
            ]  # fmt: skip
            closed = self._closed()
            if late and node_type not in closed and self._others_do(node_type, set(self._types) - closed - {node_type}):
                self._avoided_until[node_type] = time.monotonic() + _AVOID_S
                # Ray takes back what is pending beyond the new limit, when it has read it
                self._events.note("gave up", node_type, f"job {', '.join(late)}: pending too long")

    def _others_do(self, node_type: str, others: set[str]) -> bool:
        """Whether all that waits and would fit on this type would fit on one of the others too. Work that only this
        type can do would lose its place in the queue for nothing."""
        waiting = [bundle for bundle in self._waiting() if others and self._fits(bundle, node_type)]
        return bool(waiting) and all(any(self._fits(bundle, other) for other in others) for bundle in waiting)

    def _waiting(self) -> list[dict[str, float]]:
        now = time.monotonic()
        if now >= self._ask_ray_at:
            self._ask_ray_at = now + _ASK_RAY_EVERY_S
            self._waits = waiting_bundles(self._address)
        return self._waits

    def _fits(self, bundle: Mapping[str, float], node_type: str) -> bool:
        resources = self._types[node_type]["resources"]
        return all(resources.get(name, 0) >= amount for name, amount in bundle.items())

    def _closed(self) -> set[str]:
        """Types that are not asked for now; none where that would be all of them."""
        now = time.monotonic()
        found = self._given_up()
        found |= {name for name, refusal in list(self._refused.items()) if refusal.avoided_until > now}
        return found if found != set(self._types) else set()

    def _given_up(self) -> set[str]:
        """Types whose jobs were pending for too long."""
        now = time.monotonic()
        return {name for name, until in list(self._avoided_until.items()) if until > now}

    def _set_limits(self) -> None:
        """Ray reads its config at each look: a type that is closed keeps what it has, and gets no more. Of one that was
        given up, what is pending goes; after a refusal it keeps its place in the queue."""
        closed, given_up = self._closed(), self._given_up()
        # Ray counts its requests too, and would take back a job for each beyond the limit. They are read before the
        # jobs, or one that has just become a job would be missed
        with self._asking:
            kept = self._asked.copy()
        kept.update(
            worker.kind for worker in self._jobs.look().values()
            if not worker.job.is_leaving and not (worker.kind in given_up and worker.job.state == "PENDING")
        )  # fmt: skip
        limits = {
            name: kept[name] if name in closed else int(node_type["max"]) for name, node_type in self._types.items()
        }
        if limits == self._limits:
            return
        try:
            self._write_limits(limits)
        except OSError as error:  # nodes are launched and released all the same
            logger.warning("The limits of node types cannot be written, and stay as they are: %s", error)
        else:
            self._limits = limits

    def _write_limits(self, limits: Mapping[str, int]) -> None:
        path = self._home / files.AUTOSCALING_NAME
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, limit in limits.items():
            at_least = min(int(self._types[name]["min"]), limit)
            tree["available_node_types"][name] |= {"max_workers": limit, "min_workers": at_least}
        files.write_private(path, yaml.safe_dump(tree, sort_keys=False))
