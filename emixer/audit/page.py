"""The page of an audit: verdict, checks, the closest pairs side by side. One self-contained file, without a script.

It contains training images and reports only if requested.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emixer._version import __version__
from emixer.gallery.page import Facts, Pair, page_style
from emixer.page_templates import render_page

_TEMPLATE = Path(__file__).parent / "templates" / "audit.html.jinja"


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
    """A generated pair and its distance to the nearest training image. real: None unless training data is shown."""

    title: str
    note: str
    generated: Pair
    real: Pair | None


@dataclass(frozen=True)
class Table:
    """A table with its heading. rows: a name, then one value for each further column."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class AuditPage:
    """Content of the page."""

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
        """Whether the page contains training images."""
        return any(pair.real for pair in self.pairs)


def render(page: AuditPage) -> str:
    """Render the page as HTML."""
    return render_page(_TEMPLATE, {"page": page, "style": page_style(), "version": __version__})
