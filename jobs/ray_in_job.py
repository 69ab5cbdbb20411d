"""A Ray cluster over the nodes of one SLURM job, for as long as the job's stage runs.

The task of rank 0 is the head and the driver, every other task a worker. They meet in the job's folder, which all nodes
see: the head leaves its address and a token there, both readable by the owner alone. Whatever Ray puts on a node's disk
lies in one folder of the job's own, and is gone when the task ends.

Two jobs on one node do not meet: ports are drawn from the free ones, the folder carries the job's id, and a client
without the job's token is refused.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.allocation import Allocation
from jobs.signals import ignore_warnings, is_over

_MEETING, _TOKEN = "head.json", "token"
_PREFIX = "emixer-"
_LEFT_BY = re.compile(rf"{_PREFIX}(\d+)-\d+-\d+")
_MARK = "EMIXER_RAY_IN_JOB"
"""Stands in the environment of every process of the cluster: how they are found when it is time to go."""
_HEAD_WAIT_S, _JOIN_WAIT_S, _POLL_S = 300.0, 300.0, 0.5
_STORE_SHARE = 0.3
_MAX_STARTS = 5
_MIN_STORE_MB = 80


@dataclass(frozen=True)
class Head:
    """Where the cluster is."""

    address: str
    """host:port of its GCS."""
    token_file: Path
    attempt: str
    """Which start of the job it belongs to: a requeued job must not meet the head of its former life."""


@contextmanager
def head(allocation: Allocation, folder: Path, disk: Path) -> Iterator[Head]:
    """Starts the head on this node and waits until all nodes of the job are in. At the end all leave, within seconds.

    folder: of the job, on a file system that all nodes see. disk: on this node.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MEETING).unlink(missing_ok=True)
    token_file = folder / _TOKEN
    port = _free_port()
    address = f"{_own_address(allocation)}:{port}"
    here = Head(address, token_file, _attempt(allocation))
    environment = ray_environment(here)
    arguments = [
        "--head", f"--port={port}", f"--node-ip-address={address.partition(':')[0]}", "--include-dashboard=false",
        f"--ray-client-server-port={_free_port()}",
    ]  # fmt: skip
    try:
        _write_private(token_file, secrets.token_hex(32))
        with _ray_node(allocation, folder, disk, environment, arguments) as process:
            os.environ.update(environment)
            _wait_for_port(address, process, _log(folder, allocation))
            _write_private(folder / _MEETING, json.dumps({"address": address, "attempt": here.attempt}))
            try:
                _wait_for_nodes(address, len(allocation.nodes), environment, folder)
                yield here
            finally:
                (folder / _MEETING).unlink(missing_ok=True)  # workers see it go, and leave
    finally:
        token_file.unlink(missing_ok=True)


def serve(allocation: Allocation, folder: Path, disk: Path) -> None:
    """What every other task does: join the head, and leave when it is gone."""
    found = _meet(allocation, folder)
    environment = ray_environment(found)
    for _ in range(_MAX_STARTS):  # a node that died while the head lives comes back
        if not _is_there(folder, found):
            return
        with _ray_node(allocation, folder, disk, environment, [f"--address={found.address}"]) as process:
            while process.poll() is None and _is_there(folder, found):
                time.sleep(_POLL_S)
        time.sleep(_POLL_S)
    raise RuntimeError(f"Ray died {_MAX_STARTS} times on {allocation.node}; see {_log(folder, allocation)}.")


def ray_environment(head: Head) -> dict[str, str]:
    """What head, workers and clients need to find and believe each other."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(head.token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        _MARK: head.attempt,
    }


@contextmanager
def _ray_node(
    allocation: Allocation, folder: Path, disk: Path, environment: dict[str, str], arguments: list[str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """`ray start` for the share of this node that the job has, and its end."""
    _sweep(disk, allocation.job_id)
    temp = disk / f"{_PREFIX}{_attempt(allocation)}-{allocation.rank}"
    temp.mkdir(mode=0o700, parents=True)
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments,
        f"--num-cpus={allocation.cpus}", f"--num-gpus={allocation.gpus}", f"--temp-dir={temp}",
        f"--dashboard-agent-listen-port={_free_port()}", "--disable-usage-stats",
    ]  # fmt: skip
    if allocation.memory_mb is not None:
        store_mb = max(_MIN_STORE_MB, int(allocation.memory_mb * _STORE_SHARE))
        heap_mb = max(allocation.memory_mb - store_mb, 1)
        command += [f"--memory={heap_mb * 2**20}", f"--object-store-memory={store_mb * 2**20}"]
    with _log(folder, allocation).open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=ignore_warnings,
        )  # fmt: skip
    try:
        yield process
    finally:
        _kill_marked(environment[_MARK])
        process.wait()
        shutil.rmtree(temp, ignore_errors=True)


def _log(folder: Path, allocation: Allocation) -> Path:
    """What `ray start` said on this node."""
    return folder / f"ray-{allocation.rank}.log"


def _sweep(disk: Path, own_job: str) -> None:
    """Removes what jobs of this user left on the node that were killed too fast to do it themselves."""
    for left in disk.glob(f"{_PREFIX}*"):
        named = _LEFT_BY.fullmatch(left.name)
        if named is None or left.is_symlink() or left.stat().st_uid != os.getuid():
            continue
        if named[1] == own_job or is_over(named[1]):
            shutil.rmtree(left, ignore_errors=True)


def _kill_marked(mark: str) -> None:
    """Ends every process of the cluster on this node at once. Ray's own way drains for up to 30 s."""
    wanted = f"{_MARK}={mark}".encode()
    for _ in range(5):  # some start others while they are being ended
        marked = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _has(int(entry.name), wanted)
        ]
        if not marked:
            return
        for pid in marked:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.1)


def _has(pid: int, wanted: bytes) -> bool:
    if pid == os.getpid():
        return False
    try:
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _meet(allocation: Allocation, folder: Path) -> Head:
    end = time.monotonic() + _HEAD_WAIT_S
    while time.monotonic() < end:
        try:
            found = json.loads((folder / _MEETING).read_text(encoding="utf-8"))
            if found["attempt"] == _attempt(allocation):
                return Head(found["address"], folder / _TOKEN, found["attempt"])
        except (OSError, ValueError):
            pass
        time.sleep(_POLL_S)
    raise TimeoutError(f"The head of this job did not come up within {_HEAD_WAIT_S:.0f} s; see ray-0.log in {folder}.")


def _is_there(folder: Path, head: Head) -> bool:
    try:
        return bool(json.loads((folder / _MEETING).read_text(encoding="utf-8"))["attempt"] == head.attempt)
    except (OSError, ValueError):
        return False


def _wait_for_nodes(address: str, wanted: int, environment: dict[str, str], folder: Path) -> None:
    """In a process of its own: Ray would take the signal handlers of this one."""
    program = (
        "import sys, time, ray\n"
        "ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
        "end = time.monotonic() + float(sys.argv[3])\n"
        "while sum(node['Alive'] for node in ray.nodes()) < int(sys.argv[2]):\n"
        "    sys.exit('late') if time.monotonic() > end else time.sleep(0.5)\n"
    )
    command = [sys.executable, "-c", program, address, str(wanted), str(_JOIN_WAIT_S)]
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=ignore_warnings,
    )  # fmt: skip
    while (code := process.poll()) is None:
        time.sleep(_POLL_S)
    if code:
        raise TimeoutError(
            f"Not all of {wanted} nodes joined Ray at {address} within {_JOIN_WAIT_S:.0f} s; see ray-*.log in "
            f"{folder}. Nodes must reach each other on ports of their choice."
        )


def _wait_for_port(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    host, _, port = address.partition(":")
    end = time.monotonic() + _HEAD_WAIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection((host, int(port)), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"Ray's head did not come up at {address}; see {log}.")


def _own_address(allocation: Allocation) -> str:
    """The address under which the other nodes reach this one: that of the interface that leads to them."""
    others = [node for node in allocation.nodes if node != allocation.node]
    if not others:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((socket.gethostbyname(others[0]), 9))  # sends nothing
        return str(probe.getsockname()[0])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _attempt(allocation: Allocation) -> str:
    return f"{allocation.job_id}-{allocation.restarts}"


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, for the owner's eyes only from its first byte."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)
