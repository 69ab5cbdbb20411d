"""A Ray private to this process: its own folder, the loopback, a token, and a reaper that ends it.

Anything else on the machine, be it a Ray of this user, of another user or a whole cluster, is neither joined nor
disturbed. Nothing is left when the process ends, however it ends.
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
"""Interface on which the workers of a training run listen for each other."""
_PREFIX = "emixer-"
_RAYS = "ray"
"""Subfolder of ours for Ray, which makes the folder it is given accessible to everybody."""
_LONGEST_SOCKET = f"/{_RAYS}/session_2026-11-28_01-34-36_829116_4194304/sockets/plasma_store"
"""Longest socket path that Ray creates in our folder; the last number is a process ID."""
_MAX_BYTES = 107
"""Limit for the path of a socket (man 7 unix)."""
_FOLDERS = ("RAY_TMPDIR", "TMPDIR")
_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105
_OWN_TOKEN = ("RAY_AUTH_MODE", _TOKEN, "RAY_AUTH_TOKEN_PATH")
"""Variables by which a user sets how Ray's processes authenticate each other."""


@dataclass(frozen=True)
class RayEnvironment:
    """Where one Ray keeps its files, and the mark of its processes: set in their environment, to find them."""

    folder: Path
    mark: str

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Wrap `ray.init`, whose processes inherit the environment set here."""
        with _environment({MARK: self.mark, **_LOOPBACK, **fair_share.worker_environment()}), on_the_loopback():
            yield


@contextmanager
def ray_environment(*, keep_logs: bool) -> Iterator[RayEnvironment]:
    """Wrap the whole life of a Ray; when it or this process ends, nothing is left.

    keep_logs: keep the folder, which holds Ray's own logs. Raises StorageError when no folder can be created.
    """
    folder = _make_folder()
    mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    if keep_logs:
        logger.debug("Ray's own logs are in %s/session_latest/logs, and stay there.", folder / _RAYS)
    with reaper(mark, folder, keep=keep_logs), _token():
        yield RayEnvironment(folder / _RAYS, mark)


@contextmanager
def on_the_loopback() -> Iterator[None]:
    """Make `ray.init` in this block start, or join, a Ray that listens on the loopback only.

    Ray takes 127.0.0.1 for "the address at which others reach this machine", and then listens on every interface; only
    where it supports no clusters, as on macOS, does it take the address literally.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def is_on_the_loopback(address: str) -> bool:
    """Return whether the cluster at host:port cannot be reached from other machines."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost"):
        return False
    try:
        with socket.create_connection((services.resolve_ip_for_localhost(host), int(port)), timeout=2):
            return False
    except (OSError, ValueError):
        return True


def _make_folder() -> Path:
    """Create a folder readable by this user only, where Ray puts its files by default if socket paths fit there."""
    most = _MAX_BYTES - len(f"/{_PREFIX}12345678{_LONGEST_SOCKET}")
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
    """Set a token without which clients are refused. Ray's own would be a single file in the user's home, which two
    commands started for the first time at once would overwrite, and a home may be read-only."""
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
    """Clear the token that Ray has cached; the next cluster that this process joins may have another."""
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
