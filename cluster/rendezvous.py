"""Where the nodes of a cluster meet: the head leaves its address in a folder that all nodes see, beside a token that
only the owner can read. When the address goes, everybody leaves."""

import os
import secrets
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster import files, slurm
from cluster.errors import ClusterError
from cluster.slurm import mark

RENDEZVOUS, _LEAVING = "head.json", "leaving"


@dataclass(frozen=True)
class Head:
    """Where a cluster is."""

    address: str
    """host:port of its GCS."""
    token_file: Path
    attempt: str
    """Which start of which job it belongs to: a requeued job must not meet the head of its former life."""

    @property
    def host(self) -> str:
        """Name or address of its machine."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """Of its GCS."""
        return int(self.address.rpartition(":")[2])

    def environment(self) -> dict[str, str]:
        """What head, workers and clients need to find and believe each other."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TRAIN_V2_ENABLED": "1",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def answers(self) -> bool:
        """Whether something listens there."""
        return listens(self.address)


def listens(address: str) -> bool:
    """Whether something listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


def node_environment(attempt: str, instance: str, node_type: str) -> dict[str, str]:
    """By this the autoscaler knows which job a Ray node is, and `kill_marked` which processes are the node's."""
    return {
        "RAY_CLOUD_INSTANCE_ID": instance,
        "RAY_NODE_TYPE_NAME": node_type,
        **mark(attempt, instance),
    }


def prepare(folder: Path, address: str, attempt: str) -> Head:
    """A head that is about to start: makes its token, and forgets the head before it."""
    folder.mkdir(parents=True, exist_ok=True)
    withdraw(folder)
    shutil.rmtree(folder / _LEAVING, ignore_errors=True)  # ids of jobs come again
    token_file = _token_file(folder, attempt)
    files.write_private(token_file, secrets.token_hex(32))
    return Head(address, token_file, attempt)


def announce(folder: Path, head: Head) -> None:
    """Tells the others that it is there."""
    content = {"address": head.address, "attempt": head.attempt, "host": own_host(), "pid": os.getpid()}
    files.write_json(folder / RENDEZVOUS, content)


def withdraw(folder: Path) -> None:
    """Others see it go, and leave. The token goes with `forget_token`."""
    (folder / RENDEZVOUS).unlink(missing_ok=True)


def forget_token(folder: Path, attempt: str) -> None:
    """After the last process that needs it."""
    _token_file(folder, attempt).unlink(missing_ok=True)


def _token_file(folder: Path, attempt: str) -> Path:
    """Each start has its own: one that ends late must not take that of the next."""
    return folder / f"token-{attempt}"


def find(folder: Path) -> Head | None:
    """The head that has announced itself there. Raises OSError when the folder cannot be read."""
    content = files.read_json(folder / RENDEZVOUS)
    try:
        attempt = str(content["attempt"])
        return Head(str(content["address"]), _token_file(folder, attempt), attempt)
    except KeyError:
        return None


def is_there(folder: Path, head: Head) -> bool:
    """Whether that very head is still announced; True where that cannot be known just now."""
    try:
        found = find(folder)
    except OSError:
        return True
    return found is not None and found.attempt == head.attempt


def ask_to_replace(folder: Path, job_id: str) -> None:
    """That node will soon be taken from its work, which a full disk must not end: then another node is requested
    when this one is gone."""
    with suppress(OSError):
        (folder / _LEAVING).mkdir(exist_ok=True)
        files.write_private(folder / _LEAVING / job_id, "")


def to_be_replaced(folder: Path) -> list[str]:
    """Jobs that asked for it."""
    try:
        return [path.name for path in (folder / _LEAVING).iterdir() if path.name.isdigit()]
    except OSError:
        return []


def own_address(node: str, others: Sequence[str] = ()) -> str:
    """The address under which other nodes reach this one: that of the interface that leads to them.

    Raises ClusterError where none can be found.
    """
    with suppress(OSError):  # SLURM's name of a node need not be one that resolves
        return _towards(others[0]) if others else _resolved(node)
    # Debian gives a machine's own name to its loopback: ask where the default route leads (nothing is sent)
    with suppress(OSError):
        return _towards("192.0.2.1")
    reached = others[0] if others else node
    with suppress(OSError, slurm.SlurmSilenceError):  # as SLURM itself reaches it
        return _towards(slurm.node_address(reached))
    raise ClusterError(
        f"No address was found under which other nodes reach {node}: the name {reached} does not lead to one, there is "
        f"no default route, and neither does what SLURM has of it (`scontrol show node {reached}`, NodeAddr). Ask the "
        "site's administrators to give nodes names that resolve."
    )


def _resolved(node: str) -> str:
    found = socket.gethostbyname(node)
    if found.startswith("127."):
        raise OSError(f"{node} is the loopback")
    return found


def _towards(host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((socket.gethostbyname(host), 9))  # sends nothing
        return str(probe.getsockname()[0])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def own_host() -> str:
    """Name of this machine."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
