"""The page of an audit: verdict, checks, the closest pairs side by side. One self-contained file, without a script.

Training images and reports stand on it only where they were asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from emixer._version import __version__
from emixer.gallery.page import Facts, Pair, page_style

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class CheckRow:
    """One figure beside its limit, as text."""

    what: str
    value: str
    interval: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class ClosePair:
    """A generated pair and how near the nearest training image is. real: None unless training data is to be shown."""

    title: str
    note: str
    generated: Pair
    real: Pair | None


@dataclass(frozen=True)
class Table:
    """A table with its heading. rows: a name and as many values as there are columns behind the first."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class AuditPage:
    """What the page shows."""

    title: str
    passed: bool
    has_copies: bool
    summary: str
    remarks: Sequence[str]
    checks: Sequence[CheckRow]
    pairs: Sequence[ClosePair]
    tables: Sequence[Table]
    facts: Sequence[Facts]

    @property
    def shows_real(self) -> bool:
        """Whether the page holds training images."""
        return any(pair.real for pair in self.pairs)


def render(page: AuditPage) -> str:
    """The page as HTML."""
    return _environment().get_template("audit.html.jinja").render(page=page, style=page_style(), version=__version__)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
