"""The serving base, tested on a minimal page."""

import asyncio
import http.client
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from emixer.errors import ConfigError
from emixer.web.access import bearer_token, digest_of, link, new_token
from emixer.web.headers import SecurityHeaders, content_policy
from emixer.web.requests import RefusedError, read_body
from emixer.web.server import address_in_words, bound_socket, is_loopback, serve


@pytest.fixture(autouse=True)
def _uvicorns_logger_as_before() -> Iterator[None]:
    logger = logging.getLogger("uvicorn")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_application_is_served_until_the_process_is_interrupted(ending: signal.Signals) -> None:
    async def hello(request: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    policy = content_policy(["let x"], [])
    app = Starlette(routes=[Route("/", hello)], middleware=[Middleware(SecurityHeaders, policy=policy)])
    bound = bound_socket("127.0.0.1", 0, "hello")
    answers = []

    def ask_and_end() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        answer = connection.getresponse()
        answers.append((answer.status, answer.read(), answer.headers["Content-Security-Policy"]))
        connection.close()
        os.kill(os.getpid(), ending)

    handler = signal.getsignal(signal.SIGTERM)
    port = bound.getsockname()[1]
    assert address_in_words(bound, "127.0.0.1") == f"http://127.0.0.1:{port}/"
    thread = threading.Thread(target=ask_and_end)
    serve(app, bound, ready=thread.start)
    thread.join()
    assert answers == [(200, b"hello", policy)]
    assert signal.getsignal(signal.SIGTERM) == handler
    with socket.socket() as free:  # the port is free again
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("command", "function"), [("serve", "serve"), ("study serve", "serve_study")])
def test_a_notebook_is_told_to_serve_in_a_thread_which_works(command: str, function: str) -> None:
    answers: list[int] = []

    def serve_once() -> None:
        async def hello(request: object) -> PlainTextResponse:
            return PlainTextResponse("hello")

        bound = bound_socket("127.0.0.1", 0, command)
        port = bound.getsockname()[1]
        answered = threading.Event()

        def ask() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/")
            answers.append(connection.getresponse().status)
            connection.close()
            answered.set()

        daemon = threading.Thread(
            target=serve, args=(Starlette(routes=[Route("/", hello)]), bound, threading.Thread(target=ask).start),
            daemon=True,
        )  # fmt: skip
        daemon.start()
        assert answered.wait(60)

    async def notebook() -> None:
        with pytest.raises(ConfigError, match=rf"threading\.Thread\(target=emixer\.{function}, args=\(config,\)"):
            bound_socket("127.0.0.1", 0, command)
        await asyncio.to_thread(serve_once)

    asyncio.run(notebook())
    assert answers == [200]


def test_connection_lost_within_a_request_is_a_refusal_without_a_traceback() -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    with pytest.raises(RefusedError, match="connection was lost") as refused:
        asyncio.run(read_body(Request({"type": "http", "method": "POST", "headers": []}, receive)))
    assert refused.value.status == 400


def test_port_in_use_is_an_error_with_what_to_do() -> None:
    with bound_socket("127.0.0.1", 0, "hello") as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"Port {port} on 127.0.0.1 is in use by .* give another --port"):
            bound_socket("127.0.0.1", port, "hello")


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b", "a" * 70])
def test_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is no address of this machine"):
        bound_socket(host, 0, "hello")


def test_token_is_random_and_looked_up_by_its_digest() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {24}
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
    assert link("https://a.example/b/", "abc") == "https://a.example/b/#abc"


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", None), ("Bearer", None), ("", None), (None, None)],
)
def test_bearer_token_is_read_from_the_header(header: str | None, token: str | None) -> None:
    assert bearer_token(header) == token


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.org", False)],
)
def test_loopback_hosts_are_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
