"""A real `emixer study serve` in its own process, and plain HTTP requests to it."""

import csv
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.served import READY_S, Server


class StudyServer(Server):
    """Serves a study until it is killed or closed."""

    def __init__(self, study: Path) -> None:
        self.study = study
        super().__init__(["study", "serve", "--study", str(study)])

    @property
    def tokens(self) -> list[str]:
        with (self.study / "readers.csv").open() as file:
            return [row["token"] for row in csv.DictReader(file)]

    def link(self, reader: int) -> str:
        with (self.study / "links.csv").open() as file:
            return [row["link"] for row in csv.DictReader(file)][reader]

    def places(self, reader: int) -> list[str]:
        listed = self.ask("/api/study", self.tokens[reader]).json["places"]
        return [each["place"] for each in listed]

    def saved(self, reader: int) -> list[tuple[int, int, int, int, int, str, str]]:
        """Return (position, version, image, report, agreement, guess, comment), read straight from the database."""
        with closing(sqlite3.connect(f"file:{self.study / 'scores.sqlite'}?mode=ro", uri=True)) as database:
            return database.execute(
                "SELECT position, version, image, report, ratings.agreement, guess, comment FROM ratings "
                "JOIN places USING (place) WHERE reader = ? ORDER BY position, version", (reader + 1,),
            ).fetchall()  # fmt: skip

    def wait_for_saved(self, reader: int, num: int) -> list[tuple[int, int, int, int, int, str, str]]:
        """Return the saved ratings once there are `num`."""
        deadline = time.monotonic() + READY_S
        while len(found := self.saved(reader)) < num:
            assert time.monotonic() < deadline, f"{len(found)} of {num} are saved"
            time.sleep(0.02)
        return found


def rating(score: int = 7, **changed: Any) -> dict[str, Any]:
    """Return a request body with a rating."""
    said = {"image": score, "report": score, "agreement": score, "guess": "real", "comment": ""} | changed
    return {"rating": said, "known_version": 0, "request": f"request-{time.monotonic_ns()}"}
