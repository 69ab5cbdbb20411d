"""A small reverse proxy with a log-in, which serves a page under a prefix and can be told to answer by itself."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_TIMEOUT_S = 60
PREFIX = "/some/prefix/"
_COOKIE = "logged_in=yes"


class Proxy(ThreadingHTTPServer):
    """Forwards what lies under PREFIX to a port of this machine, without the prefix.

    Whoever opens the page gets a cookie, without which nothing else is answered: that stands for a log-in.
    """

    daemon_threads = True
    answers: int | None = None
    """HTTP status that it answers every request with, in HTML, instead of forwarding."""
    message: str | None = None
    """What it then says instead, as JSON, as the study's own server does."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PREFIX}"


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """A proxy in a thread of its own, until the end of the block."""
    with Proxy(port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.answers is not None and self.server.message is not None:
            content = json.dumps({"message": self.server.message}).encode()
            self._answer(self.server.answers, [("Content-Type", "application/json")], content)
        elif self.server.answers is not None:
            self._answer(self.server.answers, [("Content-Type", "text/html")], b"<h1>Refused by the proxy</h1>")
        elif self.path != PREFIX and _COOKIE not in self.headers.get("Cookie", ""):
            self._answer(403, [], b"Log in first")
        else:
            assert self.path.startswith(PREFIX), "the page asks for nothing outside its prefix"
            self._forward(sent)

    do_POST = do_GET

    def _forward(self, sent: bytes) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=_TIMEOUT_S)) as behind:
            behind.request(self.command, "/" + self.path.removeprefix(PREFIX), sent, dict(self.headers))
            answer = behind.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read())

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", f"{_COOKIE}; HttpOnly; SameSite=Strict")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
