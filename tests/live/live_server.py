"""A real `emixer serve` in its own process."""

from pathlib import Path
from typing import Any

from tests.served import Answer, Server


class LiveServer(Server):
    """Serves a run until it is closed. more: further arguments; address: that it says, if not its own."""

    def __init__(self, run: Path, *more: str, address: str | None = None) -> None:
        super().__init__(["serve", "--run", str(run), "--use-gpu", "false", *more], address)

    @property
    def link(self) -> str:
        return self.said.split()[1]

    @property
    def token(self) -> str:
        return self.link.partition("#")[2]

    def draw(self, **request: Any) -> Answer:
        return self.ask("/api/draw", self.token, request)

    def download(self, file_format: str, **request: Any) -> Answer:
        return self.ask(f"/api/download/{file_format}", self.token, request)
