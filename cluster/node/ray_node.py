"""One Ray node inside the share of a machine that SLURM gave: started with that share alone, ended within a second.

Whatever Ray puts on the node's disk lies in one folder of the job's own, and is gone when the node ends. Two jobs on
one machine do not meet: ports are drawn from the free ones, the folder carries the job's id, and a client without the
cluster's token is refused.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from cluster import slurm
from cluster.node.fair_share import worker_environment
from cluster.output import say
from cluster.rendezvous import Head, free_port
from cluster.slurm import MARK

_PREFIX = "ray-"
_LEFT_BY = re.compile(rf"{_PREFIX}((\d+)-\d+)-\d+")
"""Start of a job, and the job."""
_IMPATIENCE = {
    "RAY_raylet_client_connect_timeout_milliseconds": "50", "RAY_raylet_client_num_connect_attempts": "200"
}  # fmt: skip
"""For the same ten seconds as ever, but more often: a node that looks for its own object store a moment too early would
sleep for a second, which happens at every third start."""
_STORE_SHARE, _MIN_STORE_MB = 0.3, 80
STARTS = 3
"""How often Ray is started on a node where it does not come up. It gives its own processes 30 s for that, a constant,
which a busy node, or Python packages on a slow file system, exceed at first."""
_PORT_WAIT_S = 120.0
_OWN_LOGS, _KEPT_BYTES = ("gcs_server.out", "gcs_server.err", "raylet.out", "raylet.err"), 4096
_STARTED = "Ray runtime started"
"""What `ray start` writes once the node has joined."""
_MAX_DISK_PATH = 20
"""Characters that the path of a node's local disk may have: Ray's sockets lie some 60 below, and 107 are allowed."""

_Started = TypeVar("_Started")


@dataclass(frozen=True)
class Share:
    """What of the machine the node offers to Ray's tasks and actors."""

    cpus: int
    gpus: int
    memory_mb: int | None
    """Of the job on this machine; None where SLURM does not share out memory."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Resources of one's own names."""

    def options(self) -> list[str]:
        """For `ray start`, which would else take the whole machine."""
        options = [f"--num-cpus={self.cpus}", f"--num-gpus={self.gpus}"]
        if self.resources:
            named = ", ".join(f'"{name}": {value:g}' for name, value in self.resources.items())
            options.append(f"--resources={{{named}}}")
        if self.memory_mb is not None:
            store = store_mb(self.memory_mb)
            options += [
                f"--memory={heap_mb(self.memory_mb) * 2**20}", f"--object-store-memory={store * 2**20}"
            ]  # fmt: skip
        return options


def require_short_disk_path(key: str, path: Path) -> None:
    """Raises ValueError if Ray's sockets could not be made on a node's local disk of that path, which `key` sets."""
    if len(str(path)) > _MAX_DISK_PATH:
        raise ValueError(
            f"{key}={path} is too long: Ray's socket paths below it would exceed Linux's limit of 107 characters. Use "
            "a short path, e.g. /tmp"
        )


def store_mb(memory_mb: int) -> int:
    """How much of a job's memory is for objects."""
    return max(_MIN_STORE_MB, int(memory_mb * _STORE_SHARE))


def heap_mb(memory_mb: int) -> int:
    """How much of a job's memory is for processes."""
    return max(memory_mb - store_mb(memory_mb), 1)


@contextmanager
def ray_node(
    share: Share, environment: Mapping[str, str], arguments: Sequence[str], disk: Path, name: str, log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """`ray start` for that share, and its end.

    name: of its folder on `disk`, `<job>-<start of the job>-<task>`: by it, later jobs know what was left behind.
    """
    _sweep(disk, name)
    temp = disk / f"{_PREFIX}{name}"
    temp.mkdir(mode=0o700, parents=True)
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments, *share.options(),
        f"--temp-dir={temp}", f"--dashboard-agent-listen-port={free_port()}", "--min-worker-port=0",
        "--max-worker-port=0", "--disable-usage-stats",
    ]  # fmt: skip
    with reaper(environment[MARK], temp), log.open("ab") as output:
        process = subprocess.Popen(
            command, env={**_IMPATIENCE, **os.environ, **environment, **worker_environment()},
            stdout=output, stderr=output,
            start_new_session=True, preexec_fn=ignore_warnings,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll():
                _keep_errors(temp, log)
            kill_marked(environment[MARK], temp)
            process.wait()
            shutil.rmtree(temp, ignore_errors=True)


def _keep_errors(temp: Path, log: Path) -> None:
    """Append the last lines of Ray's own logs, which go with the node: why it failed stands there."""
    for name in _OWN_LOGS:
        try:
            with (temp / "session_latest" / "logs" / name).open("rb") as said:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _KEPT_BYTES))
                lines = said.read()
            if lines:
                with log.open("ab") as kept:
                    kept.write(f"\n--- the end of {name}\n".encode() + lines)
        except OSError:
            continue


@contextmanager
def reaper(mark: str, folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Somebody who ends what carries the mark or works in Ray's folder, and removes that unless it is to be kept, when
    this process is over or is killed."""
    command = [sys.executable, "-m", "cluster.node.reaper", mark, str(folder), *(["--keep"] if keep else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True):
        yield


def ignore_warnings() -> None:
    """For a child, before it begins: where SLURM tracks processes without cgroups, its warning reaches every process of
    the job, and would end those that do not expect it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class StartError(RuntimeError):
    """Ray did not come up on this node."""


def has_started(log: Path, since: int) -> bool:
    """Whether `ray start` has written to `log`, after its first `since` bytes, that the node has joined."""
    with log.open("rb") as file:
        file.seek(since)
        return _STARTED.encode() in file.read()


def started_head(
    stack: ExitStack, head: Head, start: Callable[[Head], _Started], is_to_end: Callable[[], bool]
) -> tuple[Head, _Started]:
    """Ray's head, started again at another port if it does not come up, and left running in `stack`.

    start: enters its node into `stack`. Raises StartError when the last start has failed, or there is to be no other.
    """
    for left in reversed(range(STARTS)):
        try:
            return head, start(head)
        except StartError as error:
            stack.close()
            if not left or is_to_end():
                raise
            say(f"{error} Starting it again.")
            head = replace(head, address=f"{head.host}:{free_port()}")
    raise AssertionError("the last start returns or raises")


def wait_for_port(
    address: str, process: "subprocess.Popen[bytes]", log: Path, is_to_end: Callable[[], bool] = lambda: False
) -> None:
    """Until something listens at the address. Raises StartError when the process ends, it takes too long, or this
    program is to end."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + _PORT_WAIT_S
    while time.monotonic() < end and process.poll() is None:
        if is_to_end():
            raise StartError("Told to end while Ray was starting.")
        try:
            with socket.create_connection((host, int(port)), timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise StartError(f"Ray's head did not come up at {address}; see {log}.")


def kill_marked(mark: str, folder: Path | None = None) -> None:
    """Ends every process of the cluster on this node at once. Ray's own way drains for up to 30 s.

    folder: Ray's, below which its agents have files open: they write their title over their environment, the mark
    included, and outlive the raylet that started them.
    """
    wanted = f"{MARK}={mark}".encode()
    for _ in range(5):  # some start others while they are being ended
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        found = [pid for pid in pids if pid != os.getpid() and (_has(pid, wanted) or _works_in(pid, folder))]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.1)


def _has(pid: int, wanted: bytes) -> bool:
    try:
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _works_in(pid: int, folder: Path | None) -> bool:
    """Whether it is one of Ray's processes with a file open below the folder; others may look at a log there."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        if folder is None or not title.startswith(b"ray::"):
            return False
        return any(file.readlink().is_relative_to(folder) for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _sweep(disk: Path, own_name: str) -> None:
    """Removes what jobs of this user left on the node that were killed too fast to do it themselves; also this one's
    former lives, but not what its other tasks have here now."""
    own_start = own_name.rpartition("-")[0]
    own_job = own_name.partition("-")[0]
    for left in disk.glob(f"{_PREFIX}*"):
        named = _LEFT_BY.fullmatch(left.name)
        try:
            if named is None or left.is_symlink() or left.stat().st_uid != os.getuid():
                continue
        except OSError:  # a neighbour has just removed its own
            continue
        is_former_life = named[2] == own_job and named[1] != own_start
        if is_former_life or left.name == f"{_PREFIX}{own_name}" or slurm.is_over(named[2]):
            shutil.rmtree(left, ignore_errors=True)
