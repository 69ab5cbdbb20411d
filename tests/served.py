"""A real server in its own process, and plain HTTP requests to it."""

import http.client
import json
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

READY_S = 60


@dataclass(frozen=True)
class Answer:
    """A server's answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`python -m emixer ARGUMENTS --port PORT`, until it is killed or closed. address: that it says, if not its own."""

    def __init__(self, arguments: Sequence[str], address: str | None = None) -> None:
        self.arguments = arguments
        self.port = free_port()
        self.address = address or f"http://127.0.0.1:{self.port}/"
        self.said = ""
        """The first line it printed."""
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "emixer", *self.arguments, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        if self.address not in self.said:
            self.process.kill()
            raise AssertionError(self.process.communicate()[1])

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.close()

    def close(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.communicate(timeout=READY_S)

    def ask(self, path: str, token: str | None = None, sent: Any = None, method: str | None = None) -> Answer:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        body = None if sent is None else sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=READY_S)) as connection:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
            with connection.getresponse() as answer:
                content = answer.read()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)


def free_port() -> int:
    """Return a port below the range for outgoing connections; otherwise one of these could hold it when a killed
    server comes back, above all a browser's attempt to reach that server."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
