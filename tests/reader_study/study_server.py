"""A real `emixer study serve` in a process of its own, and plain HTTP requests to it."""

import csv
import http.client
import json
import random
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READY_S = 60


@dataclass(frozen=True)
class Answer:
    """Of a server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class StudyServer:
    """Serves a study until it is killed or ended."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.port = _free_port()
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "emixer",
            "study",
            "serve",
            "--study",
            str(self.study),
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if f" at http://127.0.0.1:{self.port}/" not in said:
            self.process.kill()
            raise AssertionError(self.process.communicate()[1])

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.close()

    def close(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.communicate(timeout=_READY_S)

    @property
    def tokens(self) -> list[str]:
        with (self.study / "readers.csv").open() as file:
            return [row["token"] for row in csv.DictReader(file)]

    def link(self, reader: int) -> str:
        with (self.study / "links.csv").open() as file:
            return [row["link"] for row in csv.DictReader(file)][reader]

    def ask(self, path: str, token: str | None = None, sent: Any = None, method: str | None = None) -> Answer:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        body = None if sent is None else sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_READY_S)) as connection:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
            with connection.getresponse() as answer:
                content = answer.read()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)

    def places(self, reader: int) -> list[str]:
        listed = self.ask("/api/study", self.tokens[reader]).json["places"]
        return [each["place"] for each in listed]

    def saved(self, reader: int) -> list[tuple[int, int, int, int, int, str, str]]:
        """(position, version, image, report, agreement, guess, comment), read from the database by itself."""
        with closing(sqlite3.connect(f"file:{self.study / 'scores.sqlite'}?mode=ro", uri=True)) as database:
            return database.execute(
                "SELECT position, version, image, report, ratings.agreement, guess, comment FROM ratings "
                "JOIN places USING (place) WHERE reader = ? ORDER BY position, version", (reader + 1,),
            ).fetchall()  # fmt: skip

    def wait_for_saved(self, reader: int, num: int) -> list[tuple[int, int, int, int, int, str, str]]:
        """Once there are so many."""
        deadline = time.monotonic() + _READY_S
        while len(found := self.saved(reader)) < num:
            assert time.monotonic() < deadline, f"{len(found)} of {num} are saved"
            time.sleep(0.02)
        return found


def _free_port() -> int:
    """Below those that the system gives to outgoing connections: one of these may else have it when a killed server
    comes back, a browser's attempt to reach that server above all."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def rating(score: int = 7, **changed: Any) -> dict[str, Any]:
    """A body to send."""
    said = {"image": score, "report": score, "agreement": score, "guess": "real", "comment": ""} | changed
    return {"rating": said, "known_version": 0, "request": f"request-{time.monotonic_ns()}"}
