"""What the head of a cluster does: python -m cluster.head HOME ATTEMPT

Starts Ray's head with the autoscaler, tells the workers where it is, runs the programs that `python -m cluster submit`
leaves in the folder, and takes everything down when it is asked to, or when Ray ends.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

import yaml

from cluster import cleanup, files, rendezvous, slurm
from cluster.config import validate
from cluster.errors import ClusterError
from cluster.event_log import EventLog
from cluster.files import CONFIG_NAME, STOP_NAME
from cluster.head.autoscaling import (
    autoscaler_environment,
    autoscaling_config,
    cleanup_options,
    cleanup_script,
)
from cluster.head.programs import Programs
from cluster.node.ray_node import Share, StartError, ray_node, started_head, wait_for_port
from cluster.node.ray_state import ask_ray
from cluster.output import say
from cluster.rendezvous import free_port, node_environment
from cluster.slurm.allocation import Allocation
from cluster.slurm.job_registry import HEAD

_POLL_S, _SAY_AGAIN_S = 0.25, 60.0
_ASK_TIME_EVERY_S = 15.0
_LOOK_UP_S = 5.0
"""How long it waits for Ray before it looks whether Ray has ended, or it is to end itself."""
_TIDY_S = 10.0
"""What is left of the head's time when its programs must have ended."""
_KILL_WAIT_S = 30.0
"""What SLURM leaves between TERM and KILL, by default."""
_LOCK_WAIT_S = 3.0
"""`python -m cluster up` takes the lock for a moment, to see whether anybody has it."""


class _Head:
    def __init__(self, home: Path, attempt: str) -> None:
        self._home, self._attempt = home, attempt
        self._config = validate(files.read_json(home / CONFIG_NAME), str(home / CONFIG_NAME))
        self._allocation = Allocation.from_environment()
        self._events = EventLog(home)
        self._view = files.FreshView(home)
        self._told_to_end = False
        self._ends_at: float | None = None
        self._ask_time_at = 0.0
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self) -> int:
        """Returns the exit code: 0 if it was told to end. Ends at once where the cluster has a head."""
        path = self._home / files.HEAD_LOCK_NAME
        try:
            lock = files.lock(path, _LOCK_WAIT_S)
        except BlockingIOError:
            say(f"The cluster has a head already ({path} is locked): this one ends.")
            return 1
        with lock:
            return self._run_alone()

    def _run_alone(self) -> int:
        home = self._home
        try:
            with ExitStack() as stack:
                started = self._started(stack)
                if started is None:
                    return 0
                head, (process, programs) = started
                self._wait_to_be_cleaned_up_after()
                rendezvous.announce(home, head)
                self._events.note("head up", "", head.address)
                say(f"Up at {head.address}.")
                try:
                    code = self._watch(process, programs)
                    if process.poll() is None:
                        self._let_programs_save(programs)
                finally:
                    with suppress(OSError):
                        rendezvous.withdraw(home)  # workers see it go, and leave
                    cleanup.cancel_all(home, self._attempt, but=os.environ.get("SLURM_JOB_ID"))
                    with suppress(OSError):
                        programs.stop_all()
                    self._keep_logs()
        finally:
            with suppress(OSError):
                rendezvous.forget_token(home, self._attempt)
            self._events.note("head down")
        return code

    def _started(
        self, stack: ExitStack
    ) -> "tuple[rendezvous.Head, tuple[subprocess.Popen[bytes], Programs]] | None":  # fmt: skip
        """Ray's head, left running in `stack`; None when told to end."""
        host = rendezvous.own_address(rendezvous.own_host())
        head = rendezvous.prepare(self._home, f"{host}:{free_port()}", self._attempt)
        try:
            return started_head(stack, head, lambda head: self._start(head, stack), self._is_to_end)
        except StartError:
            if self._is_to_end():
                return None
            raise

    def _start(self, head: rendezvous.Head, stack: ExitStack) -> tuple["subprocess.Popen[bytes]", Programs]:
        config, home = self._config, self._home
        tree = autoscaling_config(config, self._attempt, head.address)
        files.write_private(home / files.AUTOSCALING_NAME, yaml.safe_dump(tree, sort_keys=False))
        arguments = [
            "--head", f"--port={head.port}", f"--node-ip-address={head.host}",
            "--include-dashboard=false", f"--ray-client-server-port={free_port()}",
            f"--autoscaling-config={home / files.AUTOSCALING_NAME}",
        ]  # fmt: skip
        environment = {
            **head.environment(), **autoscaler_environment(config), **node_environment(self._attempt, HEAD, HEAD),
            "AUTOSCALER_METRIC_PORT": str(free_port()),
        }  # fmt: skip
        log = home / "logs" / "head.ray.log"
        own_mark = {slurm.MARK: environment[slurm.MARK]}  # what a program leaves behind ends with this node
        programs = Programs(home, head.environment() | {"RAY_ADDRESS": head.address} | own_mark)
        process = stack.enter_context(
            ray_node(self._share(), environment, arguments, config.local_disk, self._name(), log)
        )
        wait_for_port(head.address, process, log, self._is_to_end)
        self._wait_for_node(head, process, log)
        return process, programs

    def _watch(self, process: "subprocess.Popen[bytes]", programs: Programs) -> int:
        troubled_at = -_SAY_AGAIN_S
        while not self._is_to_end() and self._seconds_left() > self._config.warn_s:
            if process.poll() is not None:
                say(f"Ray's head ended with code {process.returncode}; see logs/head.ray.log.")
                return 1
            try:
                programs.look()
            except OSError as error:  # a disk that is full, or gone for a while, must not end the cluster
                if time.monotonic() - troubled_at > _SAY_AGAIN_S:
                    troubled_at = time.monotonic()
                    say(f"Cannot check on programs: {error}")
            time.sleep(_POLL_S)
        return 0

    def _seconds_left(self) -> float:
        """Until SLURM ends the head; asked now and then, since a limit can be changed."""
        now = time.monotonic()
        if self._allocation is not None and now >= self._ask_time_at:
            self._ask_time_at = now + _ASK_TIME_EVERY_S
            left = slurm.seconds_left(self._allocation.job_id)
            self._ends_at = self._ends_at if left is None else now + left
        return math.inf if self._ends_at is None else self._ends_at - now

    def _let_programs_save(self, programs: Programs) -> None:
        """Where SLURM ends the head, or is about to: programs are told, while the workers are still there."""
        left = _KILL_WAIT_S if self._told_to_end else self._seconds_left()
        if self._is_asked_to_stop() or not (self._told_to_end or left <= self._config.warn_s):
            return
        why = "it is told to end" if self._told_to_end else f"{left:.0f} s before its time limit"
        self._events.note("ending", HEAD, f"{why}: stopping programs")
        programs.stop_all(signal.SIGTERM, max(left - _TIDY_S, 0.0))

    def _is_to_end(self) -> bool:
        return self._told_to_end or self._is_asked_to_stop()

    def _is_asked_to_stop(self) -> bool:
        """By `python -m cluster down`."""
        self._view.refresh()
        try:
            return (self._home / STOP_NAME).exists()
        except OSError:
            return False

    def _wait_for_node(self, head: rendezvous.Head, process: "subprocess.Popen[bytes]", log: Path) -> None:
        """Ray answers before its head node is there, and programs that come in between fail."""
        while not self._is_to_end():
            limits = f"--limits={self._home / files.AUTOSCALING_NAME}"
            state = ask_ray(head, limits, "--nodes=1", f"--patience={_LOOK_UP_S}")
            if state is not None and HEAD in state["joined"]:
                return
            if process.poll() is not None:
                raise StartError(f"Ray's head ended with code {process.returncode}; see {log}.")

    def _keep_logs(self) -> None:
        """What the autoscaler said, before it goes with the disk."""
        for path in (self._config.local_disk / f"ray-{self._name()}").glob("session_latest/logs/monitor.*"):
            try:
                shutil.copyfile(path, self._home / "logs" / f"autoscaler{path.suffix}")
            except OSError:
                continue

    def _share(self) -> Share:
        ask = self._config.head
        allocation = self._allocation
        memory_mb = ask.memory_mb if allocation is None else allocation.memory_mb or ask.memory_mb
        return Share(ask.offers_cpus, 0, memory_mb)

    def _name(self) -> str:
        """Of its folder on this machine's disk."""
        allocation = self._allocation
        return f"{self._attempt}-head" if allocation is None else f"{allocation.job_id}-{allocation.restarts}-0"

    def _wait_to_be_cleaned_up_after(self) -> None:
        """A job that starts when this one is over: the node under it may die with all that runs there."""
        if self._allocation is None or not self._config.head.cleanup_job:
            return
        try:
            options = cleanup_options(self._config, self._attempt, self._allocation.job_id)
            slurm.submit(cleanup_script(self._config, self._attempt), options)
        except ClusterError as error:
            say(f"No cleanup job: {error.message}. If this node dies, pending jobs stay until they start.")

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = True


if __name__ == "__main__":
    sys.exit(_Head(Path(sys.argv[1]), sys.argv[2]).run())
