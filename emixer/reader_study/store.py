"""Storage of scores: one SQLite database per study, which survives a killed server, a full disk and concurrent tabs.

A score is acknowledged once it is on disk (WAL, synchronous=FULL). Nothing is overwritten: a change is a new version,
and the last one counts. The database holds readers, their orders and their ratings, but not which pair is real.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from emixer.errors import RunFolderError, StorageError
from emixer.files import require_readable
from emixer.reader_study.rating import Rating

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x454D5852  # "EMXR": distinguishes it from other SQLite files
_BUSY_S = 10
_SCHEMA = """
CREATE TABLE study (study_id TEXT NOT NULL) STRICT;
CREATE TABLE readers (reader INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token_digest TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE places (
    place TEXT PRIMARY KEY, reader INTEGER NOT NULL REFERENCES readers, position INTEGER NOT NULL, item TEXT NOT NULL,
    UNIQUE (reader, position)
) STRICT;
CREATE TABLE ratings (
    place TEXT NOT NULL REFERENCES places, version INTEGER NOT NULL,
    image INTEGER NOT NULL CHECK (image BETWEEN 1 AND 10), report INTEGER NOT NULL CHECK (report BETWEEN 1 AND 10),
    agreement INTEGER NOT NULL CHECK (agreement BETWEEN 1 AND 10),
    guess TEXT NOT NULL CHECK (guess IN ('real', 'synthetic')), comment TEXT NOT NULL,
    request TEXT NOT NULL, saved_at REAL NOT NULL,
    PRIMARY KEY (place, version), UNIQUE (place, request)
) STRICT;
"""
_READERS = "SELECT token_digest, reader, name FROM readers"
_PLACES = "SELECT reader, place, item FROM places"
_PROGRESS = """
SELECT place, (SELECT count(*) FROM ratings WHERE ratings.place = places.place) FROM places
WHERE reader = ? ORDER BY position
"""
_NEWEST = """
SELECT version, image, report, agreement, guess, comment FROM ratings WHERE place = ? ORDER BY version DESC LIMIT 1
"""
_AT_VERSION = "SELECT image, report, agreement, guess, comment FROM ratings WHERE place = ? AND version = ?"
_LAST_VERSION = "SELECT coalesce(max(version), 0) FROM ratings WHERE place = ?"
_BY_REQUEST = "SELECT version FROM ratings WHERE place = ? AND request = ?"
_INSERT = "INSERT INTO ratings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_EVERYTHING = """
SELECT name, position, item, image, report, agreement, guess, comment FROM places JOIN readers USING (reader)
LEFT JOIN ratings ON ratings.place = places.place
    AND version = (SELECT max(version) FROM ratings AS newest WHERE newest.place = places.place)
ORDER BY reader, position
"""


@dataclass(frozen=True)
class Reader:
    """A reader of the study."""

    number: int
    name: str


@dataclass(frozen=True)
class NewReader:
    """A reader of a new study. places: in the order in which they will be shown."""

    name: str
    token_digest: str
    places: tuple[tuple[str, str], ...]
    """(place, item): a place is an item in one reader's order, with a name that reveals neither."""


@dataclass(frozen=True)
class Saved:
    """A rating saved to disk."""

    version: int
    replaced: Rating | None
    """Rating that another tab or device had saved meanwhile; it stays in the database but no longer counts."""


@dataclass
class _Waiting:
    """A rating waiting to be written."""

    place: str
    rating: Rating
    known_version: int
    request: str
    answer: Saved | StorageError | None = None


@dataclass(frozen=True)
class Showing:
    """An item in a reader's order, with the rating that counts."""

    reader: str
    position: int
    item: str
    rating: Rating | None


class Store:
    """An open database; thread-safe. See `create` and `open`."""

    def __init__(self, writing: sqlite3.Connection, reading: sqlite3.Connection, path: Path) -> None:
        # two connections: reading a pair does not wait for the write of another reader's rating
        self._writing, self._reading = writing, reading
        self._one_writes, self._one_reads = threading.Lock(), threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._path = path
        # readers and their orders are fixed when a study is made
        self._readers = {digest: Reader(number, name) for digest, number, name in reading.execute(_READERS)}
        self._items = {(number, place): item for number, place, item in reading.execute(_PLACES)}

    @classmethod
    def create(cls, path: Path, study_id: str, readers: Sequence[NewReader]) -> None:
        """Write the database of a new study, readable only by its owner: readers must not see each other's scores."""
        path.touch(mode=0o600)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(f"PRAGMA journal_mode = WAL; {_SCHEMA}")
            connection.execute("BEGIN")
            connection.execute("INSERT INTO study VALUES (?)", (study_id,))
            for number, reader in enumerate(readers, start=1):
                connection.execute("INSERT INTO readers VALUES (?, ?, ?)", (number, reader.name, reader.token_digest))
                rows = [(place, number, position, item) for position, (place, item) in enumerate(reader.places)]
                connection.executemany("INSERT INTO places VALUES (?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
            connection.executescript(
                f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}"
            )

    @classmethod
    @contextmanager
    def open(cls, path: Path, study_id: str, read_only: bool = False) -> Iterator[Self]:
        """Open the database of a study for the duration of the block.

        Raises RunFolderError when it is missing, damaged, of another schema version or of another study, StorageError
        when it may not be read.
        """
        require_readable(path)
        if not path.is_file():
            raise RunFolderError(
                f"There is no database {path}. Give a folder that `emixer study make` wrote, or copy the database back."
            )
        mode = "ro" if read_only else "rw"
        with closing(_connected(path, mode)) as writing, closing(_connected(path, mode)) as reading:
            try:
                _require_known(reading, path)
                (found,) = reading.execute("SELECT study_id FROM study").fetchone()
                if not read_only:
                    writing.executescript("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
                store = cls(writing, reading, path)
            except sqlite3.DatabaseError as error:
                raise RunFolderError(
                    f"{path} cannot be read as a database of scores ({error}). If it is damaged, put a copy in its "
                    "place; `sqlite3 FILE .recover` may save what it holds."
                ) from error
            if found != study_id:
                raise RunFolderError(
                    f"{path} holds the scores of study {found}, but this folder is study {study_id}. Put the database "
                    "back that `emixer study make` wrote here."
                )
            yield store

    def reader_of(self, token_digest: str) -> Reader | None:
        """Reader with that token; None if there is none."""
        return self._readers.get(token_digest)

    def progress(self, reader: Reader) -> list[tuple[str, int]]:
        """Places and versions in the reader's order; version 0: not scored yet."""
        with self._one_reads:
            return list(self._reading.execute(_PROGRESS, (reader.number,)))

    def item_at(self, reader: Reader, place: str) -> str | None:
        """Item of a place of this reader; None for a place of another reader."""
        return self._items.get((reader.number, place))

    def rating_at(self, place: str) -> tuple[int, Rating | None]:
        """Newest version and its rating; 0 and None for a place that is not scored."""
        with self._one_reads:
            row = self._reading.execute(_NEWEST, (place,)).fetchone()
        return (0, None) if row is None else (row[0], _rating(row[1:]))

    def save(self, place: str, rating: Rating, known_version: int, request: str) -> Saved:
        """Add a version, once per `request`, and return when it is on disk. Repeating a request gives the same result.

        known_version: the newest that the page had seen; a newer one is returned as replaced. Raises StorageError when
        the disk is full.
        """
        waiting = _Waiting(place, rating, known_version, request)
        self._waiting.append(waiting)
        with self._one_writes:
            if waiting.answer is None:  # else the previous writer has written it too
                self._write_all()
        if isinstance(waiting.answer, StorageError):
            raise StorageError(waiting.answer.message)
        assert waiting.answer is not None
        return waiting.answer

    def _write_all(self) -> None:
        """Write all ratings that arrived during the last write in one transaction, so as to wait for the disk once."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        answers: Sequence[Saved | StorageError]
        try:
            with self._transaction():
                answers = [self._add(waiting) for waiting in batch]
        except StorageError as error:
            answers = [error] * len(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.answer = answer

    def _add(self, waiting: "_Waiting") -> Saved:
        place, rating = waiting.place, waiting.rating
        again = self._writing.execute(_BY_REQUEST, (place, waiting.request)).fetchone()
        if again is None:
            (newest,) = self._writing.execute(_LAST_VERSION, (place,)).fetchone()
            version = 1 + newest
            values = (rating.image, rating.report, rating.agreement, rating.guess, rating.comment)
            self._writing.execute(_INSERT, (place, version, *values, waiting.request, time.time()))
        else:
            (version,) = again
        before = self._writing.execute(_AT_VERSION, (place, version - 1)).fetchone()
        is_news = before is not None and version - 1 > waiting.known_version
        return Saved(version, _rating(before) if is_news else None)

    def showings(self) -> list[Showing]:
        """All showings, scored or not, by reader and in their order."""
        with self._one_reads:
            rows = self._reading.execute(_EVERYTHING).fetchall()
        return [Showing(row[0], row[1], row[2], None if row[3] is None else _rating(row[3:])) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._writing.execute("BEGIN IMMEDIATE")
            yield
            self._writing.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageError(f"Cannot write {self._path}: {error}. What was saved before is intact.") from error
        finally:
            if self._writing.in_transaction:
                self._writing.execute("ROLLBACK")


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_S,
        check_same_thread=False,
    )  # fmt: skip


def _require_known(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise RunFolderError(f"{path} is a database of another program. Put back what `emixer study make` wrote here.")
    if version != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema version {version}, this emixer reads version {SCHEMA_VERSION}. Use the version of "
            "emixer that made the study."
        )


def _rating(row: Sequence[object]) -> Rating:
    return Rating.model_validate(dict(zip(Rating.model_fields, row, strict=True)))
