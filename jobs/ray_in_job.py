"""A Ray cluster on the nodes of one SLURM job, for as long as the job's stage runs.

The task of rank 0 is the head and the driver, every other task a worker. They meet in the job's folder, which all nodes
share.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from cluster import rendezvous
from cluster.files import FreshView
from cluster.node.ray_node import Share, StartError, ignore_warnings, ray_node, started_head, wait_for_port
from cluster.node.ray_state import state_command
from cluster.rendezvous import Head, free_port
from cluster.slurm import mark
from cluster.slurm.allocation import Allocation

_HEAD_WAIT_S, _JOIN_WAIT_S, _POLL_S = 600.0, 300.0, 0.5
_SHORT_POLL_S = 0.1
"""Poll interval during start-up."""
_MAX_STARTS = 5
_NO_LOG_MONITOR = "--include-log-monitor=false"
"""On every node: the driver reads no logs of workers, whose errors reach it as exceptions."""
_HEAD_OPTIONS = ("--include-dashboard=false", "--no-monitor")
"""Nobody looks at a dashboard, and there is nothing to scale: all nodes of a job are there from the start."""


@contextmanager
def head(allocation: Allocation, folder: Path, disk: Path, is_to_end: Callable[[], bool]) -> Iterator[Head]:
    """Start the head on this node and wait until all nodes of the job have joined. On exit all leave within seconds.

    folder: of the job, on a file system shared by all nodes. disk: on this node. is_to_end: whether to give up waiting.
    Raises StartError or TimeoutError when nodes do not come up.
    """
    others = [node for node in allocation.nodes if node != allocation.node]
    host = rendezvous.own_address(allocation.node, others) if others else "127.0.0.1"
    try:
        with ExitStack() as stack:
            here, process = _started(stack, allocation, folder, disk, host, is_to_end)
            rendezvous.announce(folder, here)
            try:
                if others:
                    _wait_for_nodes(here, process, len(allocation.nodes), _log(folder, allocation), is_to_end)
                yield here
            finally:
                rendezvous.withdraw(folder)
    finally:
        rendezvous.forget_token(folder, _attempt(allocation))


def _started(
    stack: ExitStack, allocation: Allocation, folder: Path, disk: Path, host: str, is_to_end: Callable[[], bool]
) -> tuple[Head, "subprocess.Popen[bytes]"]:
    """Start Ray's head and leave it running in `stack`."""
    log = _log(folder, allocation)

    def start(here: Head) -> "subprocess.Popen[bytes]":
        arguments = [
            "--head", f"--port={here.port}", f"--node-ip-address={here.host}",
            f"--ray-client-server-port={free_port()}", *_HEAD_OPTIONS,
        ]  # fmt: skip
        process = stack.enter_context(_node(allocation, folder, disk, here, arguments))
        wait_for_port(here.address, process, log, is_to_end)
        _wait_for_nodes(here, process, 1, log, is_to_end)
        return process

    first = rendezvous.prepare(folder, f"{host}:{free_port()}", _attempt(allocation))
    here, process = started_head(stack, first, start, is_to_end)
    os.environ.update(_environment(allocation, here))
    return here, process


def serve(allocation: Allocation, folder: Path, disk: Path) -> None:
    """Join the head as a worker node, and leave when the head is gone. Run by every task but that of rank 0."""
    found = _meet(allocation, folder)
    for _ in range(_MAX_STARTS):  # a node that died while the head is alive rejoins
        if not rendezvous.is_there(folder, found):
            return
        with _node(allocation, folder, disk, found, [f"--address={found.address}"]) as process:
            while process.poll() is None and rendezvous.is_there(folder, found):
                time.sleep(_POLL_S)
        time.sleep(_POLL_S)
    raise RuntimeError(f"Ray died {_MAX_STARTS} times on {allocation.node}; see {_log(folder, allocation)}.")


def _node(
    allocation: Allocation, folder: Path, disk: Path, head: Head, arguments: list[str]
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    share = Share(allocation.cpus, allocation.gpus, allocation.memory_mb)
    name = f"{_attempt(allocation)}-{allocation.rank}"
    return ray_node(
        share, _environment(allocation, head), [*arguments, _NO_LOG_MONITOR], disk, name, _log(folder, allocation)
    )


def _environment(allocation: Allocation, head: Head) -> dict[str, str]:
    """Environment marked as this task's: another task of the job may be on the same machine."""
    return head.environment() | mark(_attempt(allocation), str(allocation.rank))


def _log(folder: Path, allocation: Allocation) -> Path:
    """Log of `ray start` on this node."""
    return folder / f"ray-{allocation.rank}.log"


def _meet(allocation: Allocation, folder: Path) -> Head:
    end, view = time.monotonic() + _HEAD_WAIT_S, FreshView(folder)
    while time.monotonic() < end:
        view.refresh()
        try:
            found = rendezvous.find(folder)
        except OSError:  # a shared folder may be briefly unavailable
            found = None
        if found is not None and found.attempt == _attempt(allocation):
            return found
        time.sleep(_SHORT_POLL_S)
    raise TimeoutError(f"The head of this job did not come up within {_HEAD_WAIT_S:.0f} s; see ray-0.log in {folder}.")


def _wait_for_nodes(
    head: Head, node: "subprocess.Popen[bytes]", wanted: int, log: Path, is_to_end: Callable[[], bool]
) -> None:  # fmt: skip
    """Query Ray in a separate process: it would replace this one's signal handlers. node: process of the head node."""
    command = state_command(head, f"--nodes={wanted}", f"--patience={_JOIN_WAIT_S}")
    with log.open("ab") as errors:
        asking = subprocess.Popen(
            command, env={**os.environ, **head.environment()}, stdout=subprocess.PIPE, stderr=errors,
            preexec_fn=ignore_warnings,
        )  # fmt: skip
    try:
        while asking.poll() is None:  # SLURM's signals are handled here
            if is_to_end():
                raise StartError("Told to end while nodes were joining.")
            if node.poll() is not None:
                raise StartError(f"Ray's head ended with code {node.returncode} while nodes were joining; see {log}.")
            time.sleep(_SHORT_POLL_S)
        answer = asking.communicate()[0].splitlines()
    finally:
        asking.kill()
        asking.wait()
    if asking.returncode or not answer or json.loads(answer[-1])["nodes"] < wanted:
        if wanted == 1:
            raise TimeoutError(
                f"Ray's head did not join itself at {head.address} within {_JOIN_WAIT_S:.0f} s; see {log}."
            )
        raise TimeoutError(
            f"Not all {wanted} nodes joined Ray at {head.address} within {_JOIN_WAIT_S:.0f} s; see ray-*.log in "
            f"{log.parent}. Nodes must be able to reach each other on any port."
        )


def _attempt(allocation: Allocation) -> str:
    return f"{allocation.job_id}-{allocation.restarts}"
