"""The folder of a study: what the server reads and, separately, the key that tells real from synthetic.

study.json        settings, sources and counts              scores.sqlite  readers' orders and scores; its owner's
items.json        the blinded list: names and reports       images/        <item>.png, all of one size in px and bytes
key.json          which item is real; readable only by its owner, and may be kept elsewhere
readers.csv       each reader's token; links.csv: their links, once the study is served
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from emixer.errors import RunFolderError
from emixer.files import write_json, written_aside
from emixer.reader_study.rating import Kind

STUDY_VERSION = 1
STUDY_NAME, ITEMS_NAME, KEY_NAME, READERS_NAME, LINKS_NAME = (
    "study.json", "items.json", "key.json", "readers.csv", "links.csv"
)  # fmt: skip
SCORES_NAME, IMAGES_FOLDER = "scores.sqlite", "images"


@dataclass(frozen=True)
class StudyFacts:
    """Content of study.json, which distinguishes no item from another."""

    study_id: str
    title: str
    side_px: int
    pairs: int
    """Pairs of each side."""
    repeats: int
    readers: int
    strata: dict[str, int]
    """Number of pairs of each side by the label they represent."""
    seed: int
    shards: str
    dataset: str
    split: str
    sources: tuple[str, ...]
    """Source collections of the real pairs."""
    package_version: str
    study_version: int = STUDY_VERSION

    @property
    def showings(self) -> int:
        """Pairs that each reader scores, repeats included."""
        return 2 * self.pairs + self.repeats


@dataclass(frozen=True)
class KeyEntry:
    """Key of one item."""

    kind: Kind
    stratum: str
    """Label that it represents."""
    labels: tuple[str, ...]
    subject: int
    """Equal for real items of one person."""
    row: int
    """Row in the split of the shards, or in the dataset."""


@dataclass(frozen=True)
class StudyFolder:
    """A study on disk."""

    path: Path
    facts: StudyFacts

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a study. Raises RunFolderError if it is not one, damaged, or of another version."""
        content = _read_json(path / STUDY_NAME, path)
        version = content.get("study_version")
        if version != STUDY_VERSION:
            raise RunFolderError(
                f"{path} is a study of version {version}, this emixer reads version {STUDY_VERSION}. Use the version "
                "of emixer that made it."
            )
        try:
            return cls(path, StudyFacts(**content | {"sources": tuple(content["sources"])}))
        except (TypeError, KeyError) as error:
            raise RunFolderError(
                f"{path / STUDY_NAME} does not describe a study as expected: it was changed."
            ) from error

    @property
    def scores(self) -> Path:
        """Path of the database."""
        return self.path / SCORES_NAME

    def reports(self) -> dict[str, str]:
        """Report of each item. Raises RunFolderError when the list is missing or damaged."""
        return {str(name): str(text) for name, text in _read_json(self.path / ITEMS_NAME, self.path).items()}

    def image(self, item: str) -> Path:
        """Path of an item's PNG."""
        return self.path / IMAGES_FOLDER / f"{item}.png"

    def key(self, elsewhere: Path | None = None) -> dict[str, KeyEntry]:
        """Key of each item. Raises RunFolderError when the key is missing or of another study."""
        path = elsewhere or self.path / KEY_NAME
        if path.is_dir():
            path = path / KEY_NAME
        if not path.exists():
            raise RunFolderError(
                f"There is no key {path}, which says which pairs are real. Give --key FILE if it is kept elsewhere."
            )
        content = _read_json(path, self.path)
        if content.get("study_id") != self.facts.study_id:
            raise RunFolderError(
                f"{path} is the key of study {content.get('study_id')}, but {self.path} is study "
                f"{self.facts.study_id}. Give --key the file that was made with this study."
            )
        return {
            item: KeyEntry(**entry | {"labels": tuple(entry["labels"])}) for item, entry in content["items"].items()
        }


def require_free(path: Path) -> None:
    """Raise RunFolderError if `path` is not free for a new study."""
    if (path / STUDY_NAME).exists():
        raise RunFolderError(
            f"{path} holds a study already, with whatever its readers have scored. Choose another --study for a new "
            "one, or delete that folder."
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunFolderError(f"{path} exists and is not a study. Choose a new --study.")


def write_facts(folder: Path, facts: StudyFacts, reports: Mapping[str, str]) -> None:
    """Write study.json and items.json."""
    write_json(folder / STUDY_NAME, asdict(facts))
    write_json(folder / ITEMS_NAME, dict(reports))


def write_key(folder: Path, study_id: str, entries: Mapping[str, KeyEntry]) -> None:
    """Write key.json."""
    items = {item: asdict(entry) for item, entry in entries.items()}
    write_private(folder / KEY_NAME, json.dumps({"study_id": study_id, "items": items}, indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """Atomically write a text file that only its owner can read."""
    with written_aside(path) as aside:
        aside.touch(mode=0o600)
        aside.write_text(text, encoding="utf-8")


def _read_json(path: Path, study: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{study} is no reader study (there is no {path.name}). Give a folder that `emixer study make` wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read ({type(error).__name__}). Put a copy in its place.") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} does not hold what `emixer study make` wrote there. Put a copy in its place.")
    return content
