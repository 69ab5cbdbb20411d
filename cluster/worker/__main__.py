"""What a worker's job does: python -m cluster.worker HOME ATTEMPT TYPE

Joins the head, serves, and leaves: when Ray has drained the node, when the head is gone, when the job is taken back, or
when its time is nearly over. Then the node takes no more work while what runs on it may finish, so that Ray asks for a
replacement before it goes.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from cluster import cleanup, rendezvous, slurm
from cluster.event_log import EventLog
from cluster.files import CONFIG_NAME, FreshView, read_json
from cluster.node.drain import tell_ray
from cluster.node.ray_node import STARTS, Share, has_started, ray_node
from cluster.output import say
from cluster.rendezvous import node_environment
from cluster.slurm.allocation import Allocation
from cluster.slurm.job_registry import HEAD, key_of, registered_jobs

_POLL_S = 0.5
_HEAD_EVERY_S, _HEAD_SILENT_S = 3.0, 20.0
_MEET_S = 75.0
"""NFS clients may remember for a minute that a file is not there."""
_MARGIN_S = 5.0
"""How long before SLURM takes the node everything on it is ended."""
_MIN_GRACE_S = 5.0


class _Worker:
    def __init__(self, home: Path, attempt: str, node_type: str) -> None:
        allocation = Allocation.from_environment()
        if allocation is None:
            raise SystemExit("This must be started by SLURM as a job of a cluster: see `python -m cluster up`.")
        self._home, self._attempt, self._type, self._allocation = home, attempt, node_type, allocation
        self._events = EventLog(home)
        self._signals = 0
        self._end: float | None = None
        signal.signal(signal.SIGUSR2, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def run(self) -> int:
        head = self._meet()
        if head is None:
            say("The head of this cluster is down or not reachable from this node: nothing to join.")
            self._cancel_others()
            return 1
        # as `up` has checked and written it: the models that check cost a tenth of a second at the start of each node
        config = read_json(self._home / CONFIG_NAME)
        asked = config["node_types"][self._type]
        allocation = self._allocation
        memory_mb = allocation.memory_mb or round(asked["memory_gb"] * 1024)
        share = Share(asked["cpus"], asked["gpus"], memory_mb, asked["resources"])
        name = f"{allocation.job_id}-{allocation.restarts}-0"
        log = self._home / "logs" / f"{allocation.job_id}-{self._type}.ray.log"
        environment = head.environment() | node_environment(self._attempt, allocation.job_id, self._type)
        for left in reversed(range(STARTS)):
            written = log.stat().st_size if log.exists() else 0
            with ray_node(
                share, environment, [f"--address={head.address}"], Path(config["local_disk"]), name, log
            ) as process:
                code = self._serve(process, head, environment)
            if code is not None:
                return code
            if not left or self._signals or has_started(log, written):
                break  # a node that Ray has known is over for its autoscaler, which will end this job
            say(f"Ray did not come up on it, code {process.returncode}: starting it again.")
        self._left(f"Ray ended on it with code {process.returncode}")
        return 1

    def _meet(self) -> rendezvous.Head | None:
        """The head, with some patience: what a shared folder shows may be a minute old."""
        end, view = time.monotonic() + _MEET_S, FreshView(self._home)
        while time.monotonic() < end and not self._signals:
            view.refresh()
            try:
                head = rendezvous.find(self._home)
            except OSError:
                head = None
            if head is not None and head.attempt == self._attempt and head.answers():
                return head
            if head is not None and head.attempt != self._attempt:
                return None  # another start of the cluster has the folder
            time.sleep(2)
        return None

    def _serve(
        self, process: "subprocess.Popen[bytes]", head: rendezvous.Head, environment: dict[str, str]
    ) -> int | None:
        """Returns the exit code; None where Ray has failed."""
        looked = heard = time.monotonic()
        answered = 0
        while process.poll() is None:
            time.sleep(_POLL_S)
            now = time.monotonic()
            if not rendezvous.is_there(self._home, head):
                return self._left("the cluster is going down")
            if now - looked >= _HEAD_EVERY_S:
                looked = now
                heard = now if head.answers() else heard
                if now - heard > _HEAD_SILENT_S:
                    self._cancel_others()
                    return self._left("the head no longer answers")
            if self._signals > answered:
                answered = self._signals
                state = slurm.state_of(self._allocation.job_id)
                if state is not None and not slurm.is_at_work(state):
                    code = self._left("taken back")  # first of all: SLURM may leave it no more time
                    if process.poll() is None:
                        self._tell_ray(head, environment, 0)
                    return code
                end = now + self._drain(head, environment)
                self._end = end if self._end is None else min(end, self._end)
            if self._end is not None and now >= self._end:
                self._tell_ray(head, environment, 0)
                return self._left("its time is over")
        if self._end is not None or process.returncode == 0:
            return self._left("drained")
        return None

    def _drain(self, head: rendezvous.Head, environment: dict[str, str]) -> float:
        """Asks Ray to take the node out of service. Returns how many seconds it has."""
        left = slurm.seconds_left(self._allocation.job_id)
        grace_s = max(_MIN_GRACE_S, (60.0 if left is None else left) - _MARGIN_S)
        self._events.note("draining", self._type, f"job {self._allocation.job_id}, {grace_s:.0f} s left")
        if self._tell_ray(head, environment, int(grace_s)):
            rendezvous.ask_to_replace(self._home, self._allocation.job_id)
        return grace_s

    def _tell_ray(self, head: rendezvous.Head, environment: dict[str, str], seconds: int) -> bool:
        """That the node has so long. Returns whether work may be running on it."""
        is_busy, words = tell_ray(head.address, self._allocation.job_id, seconds, environment)
        say(f"No more work for this node, {seconds} s left: {words}")
        return is_busy

    def _left(self, why: str) -> int:
        say(f"Leaving: {why}.")
        self._events.note("left", self._type, f"job {self._allocation.job_id}: {why}")
        return 0

    def _cancel_others(self) -> None:
        """Nobody else may be left to take back what is pending for a head that is gone.

        Only where SLURM says that its job is over: it may be this node alone that cannot reach it.
        """
        try:
            jobs = registered_jobs(slurm.my_jobs(), key_of(self._home), self._attempt)
        except slurm.SlurmSilenceError:
            return
        heads = [registered for registered in jobs if registered.kind == HEAD]
        if heads and all(registered.job.is_over or registered.job.is_leaving for registered in heads):
            cleanup.cancel_all(self._home, self._attempt, but=self._allocation.job_id)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1


if __name__ == "__main__":
    sys.exit(_Worker(Path(sys.argv[1]), *sys.argv[2:4]).run())
