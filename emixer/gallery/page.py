"""One self-contained HTML page: pairs, curves, label faithfulness and facts of a run or a dataset.

Everything is in the file: pictures as data URIs, style and script inline; nothing is loaded from elsewhere. All text is
escaped by the template; a content security policy allows only the page's script, by its hash. The page contains no
patient, study or image ids.
"""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from emixer._version import __version__
from emixer.gallery import charts
from emixer.gallery.charts import Chart
from emixer.page_templates import Filters, render_page

_TEMPLATES = Path(__file__).parent / "templates"
_GRID_WIDTH_PX = 1600
_JPEG_QUALITY = 88
_FILTERS: Filters = {
    "words": lambda name: str(name).replace("_", " "),
    "figure": lambda value: "-" if value is None else f"{value:.2f}",
    "percent": lambda value: f"{100 * max(0.0, min(1.0, value)):.0f}",
}


@dataclass(frozen=True)
class Pair:
    """An image with its report. image_HW: uint8."""

    image_HW: NDArray[np.uint8]
    report: str

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return picture_uri(Image.fromarray(self.image_HW), "PNG")


@dataclass(frozen=True)
class Comparison:
    """A real pair and a generated one with the same labels; either may be missing."""

    labels: tuple[str, ...]
    real: Pair | None = None
    generated: Pair | None = None


@dataclass(frozen=True)
class Swapped:
    """A pair sampled with another label and the same noise."""

    label: str
    pair: Pair
    change_uri: str
    """Difference from the image without a finding: brighter in orange, darker in blue."""
    named: bool | None
    """Whether the report states the label; None if unknown."""


@dataclass(frozen=True)
class SwapStrip:
    """Pairs with the same noise: without a finding, and with each of a few labels."""

    base: Pair
    swapped: tuple[Swapped, ...]


@dataclass(frozen=True)
class Grid:
    """A picture of samples after `images` training images."""

    images: int
    uri: str


@dataclass(frozen=True)
class LabelRow:
    """Faithfulness to one label: AUC of images, F1 of reports; None where not measured."""

    label: str
    auc_real: float | None
    auc_generated: float | None
    f1_real: float | None
    f1_generated: float | None


@dataclass(frozen=True)
class Facts:
    """A titled list of names and values."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class AuditLink:
    """Result of an audit of the dataset, and the link to its page."""

    verdict: str
    summary: str
    href: str
    """Relative to this page."""


@dataclass(frozen=True)
class Gallery:
    """Content of the page. Empty parts are omitted."""

    title: str
    lead: str
    """One or two introductory sentences."""
    highlights: tuple[tuple[str, str], ...] = ()
    """Key figures: value and name."""
    comparisons: tuple[Comparison, ...] = ()
    swaps: tuple[SwapStrip, ...] = ()
    charts: tuple[Chart, ...] = ()
    grids: tuple[Grid, ...] = ()
    label_rows: tuple[LabelRow, ...] = ()
    measured_at: int | None = None
    """Number of training images when the label rows were measured."""
    label_counts: tuple[tuple[str, int], ...] = ()
    """Pairs of a dataset by label, most frequent first."""
    facts: tuple[Facts, ...] = field(default=())
    audit: AuditLink | None = None
    """None: the dataset has no audit."""

    @property
    def shows_real(self) -> bool:
        """Whether the page contains real images."""
        return any(comparison.real for comparison in self.comparisons)


def render(gallery: Gallery) -> str:
    """Render the page as HTML."""
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "gallery": gallery,
        "label_filter": _label_filter(gallery.comparisons),
        "chart_width": charts.WIDTH,
        "chart_height": charts.HEIGHT,
        "chart_points": [[[list(p) for p in line.points] for line in chart.lines] for chart in gallery.charts],
        "style": page_style(),
        "script": Markup(script),  # noqa: S704 - our own file
        "script_digest": digest,
        "version": __version__,
    }
    return render_page(_TEMPLATES / "page.html.jinja", values, _FILTERS)


def page_style() -> Markup:
    """Style sheet of the page, also used by other templates."""
    return Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


def picture_uri(image: Image.Image, kind: str) -> str:
    """Encode a picture as a data URI. kind: PNG or JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_grid(path: Path, images: int) -> Grid:
    """Read a sample grid, scaled down to the width of a page."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    if picture.width > _GRID_WIDTH_PX:
        height = round(picture.height * _GRID_WIDTH_PX / picture.width)
        picture = picture.resize((_GRID_WIDTH_PX, height), Image.Resampling.LANCZOS)
    return Grid(images, picture_uri(picture, "JPEG"))


def label_rows_of(measured: Mapping[str, float], label_names: Sequence[str]) -> tuple[LabelRow, ...]:
    """Faithfulness by label from the metrics of one validation pass; labels that were not measured are omitted."""
    columns = ("label_auc_real", "label_auc_generated", "report_f1_real", "report_f1_generated")
    rows = [
        LabelRow(name, *(measured.get(f"validation/{column}/{name}") for column in columns)) for name in label_names
    ]
    return tuple(row for row in rows if row.auc_generated is not None or row.f1_generated is not None)


def _label_filter(comparisons: Sequence[Comparison]) -> list[tuple[str, int]]:
    names = [name for comparison in comparisons for name in comparison.labels]
    return sorted(((name, names.count(name)) for name in set(names)), key=lambda item: (-item[1], item[0]))
