"""`emixer study serve`: the readers' page, until it is stopped."""

import csv
import io
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from emixer import files
from emixer.config import Config
from emixer.config.study import StudyConfig
from emixer.errors import ConfigError, RunFolderError
from emixer.reader_study.folder import LINKS_NAME, READERS_NAME, StudyFolder, write_private
from emixer.reader_study.store import Store
from emixer.stages.result import StageResult
from emixer.web.access import link
from emixer.web.server import address_in_words, bound_socket, require_web, serve, warn_if_reachable

_COMMAND = "study serve"
_PUT_BACK = (
    "Put back what `emixer study make` wrote, or save it as CSV in UTF-8 with the columns reader and token, "
    "separated by commas."
)


@dataclass(frozen=True)
class ServedStudy(StageResult):
    """A server that has been stopped."""

    folder: Path
    scored: int
    showings: int

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"study": self.folder}

    @property
    def figures(self) -> Mapping[str, int]:
        return {"scored": self.scored, "showings": self.showings}

    def __str__(self) -> str:
        return (
            f"Stopped. {self.scored:,} of {self.showings:,} scores are in. The same command serves the study again; "
            f"`emixer study report --study {self.folder}` reports the results."
        )


def run(config: Config) -> ServedStudy:
    """Serve the page until SIGINT or SIGTERM.

    Raises ConfigError if the address cannot be bound, RunFolderError if the folder is not a study or is being
    served, or if its readers.csv cannot be read.
    """
    require_web(_COMMAND)
    from emixer.reader_study.app import study_app  # needs the extra `web`

    settings = config.study
    study = _open(settings)
    with (
        files.alone_in(study.path, _COMMAND),
        Store.open(study.scores, study.facts.study_id) as store,
        closing(bound_socket(settings.host, settings.port, _COMMAND)) as bound,
    ):
        app = study_app(study, store)
        address = settings.url or address_in_words(bound, settings.host)
        links = _write_links(study, address)
        warn_if_reachable(settings.host, "docs/study.md")
        serve(app, bound, lambda: _announce(study, address, links))
        showings = store.showings()
    return ServedStudy(study.path, sum(showing.rating is not None for showing in showings), len(showings))


def describe(config: Config) -> str:
    """Describe what `run` would do. Opens no port."""
    require_web(_COMMAND)
    settings = config.study
    study = _open(settings)
    with Store.open(study.scores, study.facts.study_id, read_only=True) as store:
        scored = sum(showing.rating is not None for showing in store.showings())
    facts = study.facts
    return (
        f"Would serve {study.path} at {settings.url or f'http://{settings.host}:{settings.port}/'} to {facts.readers} "
        f"readers with {facts.showings} pairs each; {scored:,} scores are in."
    )


def _open(settings: StudyConfig) -> StudyFolder:
    if settings.folder is None:
        raise ConfigError("study.folder is not set. Give --study FOLDER.")
    return StudyFolder.open(settings.folder)


def _write_links(study: StudyFolder, address: str) -> Path | None:
    """Write links.csv with the readers' links; None if the tokens are kept elsewhere.

    Raises RunFolderError if readers.csv is not as `study make` wrote it.
    """
    readers = study.path / READERS_NAME
    if not readers.exists():
        return None
    rows = [(name, link(address, token)) for name, token in _tokens(readers)]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("reader", "link"), *rows])
    write_private(study.path / LINKS_NAME, out.getvalue())
    return study.path / LINKS_NAME


def _tokens(readers: Path) -> list[tuple[str, str]]:
    """Name and token of each reader. A spreadsheet that saved the file may have put a byte order mark before it."""
    try:
        with readers.open(encoding="utf-8-sig", newline="") as file:
            listed = csv.DictReader(file)
            missing = [name for name in ("reader", "token") if name not in (listed.fieldnames or ())]
            rows = [] if missing else [(row["reader"], row["token"]) for row in listed]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunFolderError(f"{readers} cannot be read as CSV in UTF-8. {_PUT_BACK}") from error
    if missing:
        raise RunFolderError(f"{readers} has no column {' and no column '.join(missing)}. {_PUT_BACK}")
    without = [name for name, token in rows if not token]
    if without:
        raise RunFolderError(f"{readers} has no token of {', '.join(without)}. {_PUT_BACK}")
    return rows


def _announce(study: StudyFolder, address: str, links: Path | None) -> None:
    click.echo(f"Serving {study.path} at {address}")
    if links is not None:
        click.echo(f"Readers' personal links: {links}")
    click.echo("Ctrl-C stops the server; every score shown as saved is on disk.")
