"""What a Ray of this process alone is started in: a folder of its own, the loopback, a token, and somebody who ends it.

Whatever else runs on the machine, be it Ray of this user, of another one or a whole cluster, is neither joined nor
disturbed. Nothing is left when the process is over, however it ends.
"""

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from cluster.node import fair_share
from cluster.node.ray_node import reaper
from cluster.slurm import MARK
from emixer.errors import StorageError

logger = logging.getLogger(__name__)

_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Where workers of one training listen for each other."""
_PREFIX = "emixer-"
_RAYS = "ray"
"""Within our folder: Ray opens to everybody what it is given."""
_LONGEST_SOCKET = f"/{_RAYS}/session_2026-11-28_01-34-36_829116_4194304/sockets/plasma_store"
"""Of those that Ray makes below ours; the last number is a process id."""
_MOST_BYTES = 107
"""Of the path of a socket (man 7 unix)."""
_FOLDERS = ("RAY_TMPDIR", "TMPDIR")
_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105
_OWN_TOKEN = ("RAY_AUTH_MODE", _TOKEN, "RAY_AUTH_TOKEN_PATH")
"""By these a user says how Ray's processes are to believe each other."""


@dataclass(frozen=True)
class Surroundings:
    """Of one Ray. folder: for its files. mark: in the environment of its processes, by which they are found."""

    folder: Path
    mark: str

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Stands around `ray.init`, whose processes inherit what is set here."""
        with _environment({MARK: self.mark, **_LOOPBACK, **fair_share.worker_environment()}), on_the_loopback():
            yield


@contextmanager
def surroundings(*, keep_logs: bool) -> Iterator[Surroundings]:
    """Stands around the whole life of a Ray; when it or this process is over, nothing is left.

    keep_logs: leave the folder behind, where Ray's own logs are. Raises StorageError when there is nowhere to make the
    folder.
    """
    folder = _make_folder()
    mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    if keep_logs:
        logger.debug("Ray's own logs are in %s/session_latest/logs, and stay there.", folder / _RAYS)
    with reaper(mark, folder, keep=keep_logs), _token():
        yield Surroundings(folder / _RAYS, mark)


@contextmanager
def on_the_loopback() -> Iterator[None]:
    """`ray.init` in this block starts, or joins, a Ray that keeps to the loopback.

    Ray takes 127.0.0.1 for "the address by which others reach this machine", and then listens on every interface; only
    where it has no clusters, as on macOS, does it take it for what it is.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def is_on_the_loopback(address: str) -> bool:
    """Whether the cluster at host:port is one that cannot be reached from other machines."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost"):
        return False
    try:
        with socket.create_connection((services.resolve_ip_for_localhost(host), int(port)), timeout=2):
            return False
    except (OSError, ValueError):
        return True


def _make_folder() -> Path:
    """Readable by this user alone; where Ray puts its files by default, if a socket's path may be as long."""
    most = _MOST_BYTES - len(f"/{_PREFIX}12345678{_LONGEST_SOCKET}")
    for name in (*_FOLDERS, None):
        base = "/tmp" if name is None else os.environ.get(name)  # noqa: S108
        if not base:
            continue
        if len(os.fsencode(base)) > most:
            logger.warning(
                "%s=%s is %d bytes long, but Ray's sockets allow %d: using another folder. Set RAY_TMPDIR to a "
                "shorter path on a local disk with enough space.",
                name, base, len(os.fsencode(base)), most,
            )  # fmt: skip
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        except OSError as error:
            reason = f"{base}: {error.strerror}"
    raise StorageError(
        f"Cannot create a folder for Ray's files ({reason}). Set RAY_TMPDIR to a writable folder on a local disk, with "
        f"a path of at most {most} characters."
    )


@contextmanager
def _token() -> Iterator[None]:
    """Clients without it are refused. Ray's own token would be one of the user's home for all, which two commands that
    start for the first time at once would write over each other, and a home may be read-only."""
    if any(name in os.environ for name in _OWN_TOKEN):
        yield
        return
    with _environment({_TOKEN: _token_of_this_process()}):
        _forget_read_token()
        try:
            yield
        finally:
            os.environ.pop("RAY_AUTH_MODE", None)  # Ray sets it
            _forget_read_token()


@cache
def _token_of_this_process() -> str:
    return secrets.token_hex(32)


def _forget_read_token() -> None:
    """Ray reads a token once; the next cluster that this process joins may have another."""
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
