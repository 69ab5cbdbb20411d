"""Serving an ASGI application at one address until it is stopped. Loopback unless told otherwise."""

import asyncio
import errno
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from emixer.errors import ConfigError
from emixer.extras import to_install

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

_BACKLOG = 512
_GRACE_S = 5
"""Time for pending responses to finish after the server is told to stop [s]."""
_KEEP_ALIVE_S = 30


def require_web(command: str) -> None:
    """Raise ConfigError if the packages that serve pages are not installed."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"`emixer {command}` needs packages that are not installed ({', '.join(missing)}). Run {to_install('web')}."
        )


def bound_socket(host: str, port: int, command: str) -> socket.socket:
    """Bind a listening socket; port 0 takes a free one. Raises ConfigError if the address cannot be bound, or if this
    thread runs an event loop, as a notebook's does: `serve` runs one of its own.
    """
    _require_no_loop(command)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter of a name that cannot be one
        raise _no_address(host, error) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise _cannot_bind(host, port, command, error) from error
    return bound


def _require_no_loop(command: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    function = "emixer." + "_".join(reversed(command.split()))  # `study serve` is emixer.serve_study
    raise ConfigError(
        f"{function} cannot run in this thread, in which an event loop runs, as in a notebook. Run `emixer {command}` "
        f"in a terminal, or threading.Thread(target={function}, args=(config,), daemon=True).start()."
    )


def serve(app: "ASGIApp", bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, which let pending responses finish. ready: called once requests are answered.

    No access log is written, for the privacy of readers.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, ws="none",
        timeout_graceful_shutdown=_GRACE_S, timeout_keep_alive=_KEEP_ALIVE_S, backlog=_BACKLOG, lifespan="off",
        proxy_headers=False,  # no response depends on who asks, or by which address
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with closing(bound), _sigterm_as_ctrl_c(), suppress(KeyboardInterrupt):  # re-raised by uvicorn after shutdown
        Server(config).run(sockets=[bound])


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt for the duration of the block, in the main thread.

    After its shutdown uvicorn sends itself the signal again, and that would end the process before databases are closed
    and locks released.
    """
    if threading.current_thread() is not threading.main_thread():  # gets no signals, nor may it handle any
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def address_in_words(bound: socket.socket, host: str) -> str:
    """URL of the server, e.g. `http://127.0.0.1:8765/`."""
    port = bound.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether the host is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warn_if_reachable(host: str, guide: str) -> None:
    """Warn of an address that is not of this machine alone. guide: the page that says what to do."""
    if not is_loopback(host):
        logger.warning(
            "host=%s can be reached by others, without encryption: let only a proxy with HTTPS reach this port (%s).",
            host,
            guide,
        )


def _cannot_bind(host: str, port: int, command: str, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"Port {port} on {host} is in use by another program, perhaps by another `emixer {command}`. End that one, "
            "or give another --port; 0 takes a free one."
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"Port {port} on {host} may not be opened by this user. Give a --port of 1024 or more, and let a proxy "
            "listen on the lower one."
        )
    return _no_address(host, error)


def _no_address(host: str, error: OSError | UnicodeError) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else "not a name of a machine"
    return ConfigError(
        f"host={host} is no address of this machine ({reason}). Give --host 127.0.0.1, or a name or number that "
        "`hostname --all-fqdns` or `ip address` shows."
    )
