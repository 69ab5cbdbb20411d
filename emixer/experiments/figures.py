"""The paper's sample figures, for print: real pairs beside synthetic ones, and grids of images.

Every figure is drawn once and written as PNG and as PDF, in which text stays text.

Shapes: N images, H = W side [px].
"""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

KINDS = ("png", "pdf")
_DPI = 200
_TEXT_PT, _LABEL_PT, _HEAD_PT, _TITLE_PT = 7.5, 7.5, 10, 9
_TEXT, _SOFT, _LABEL = "#222222", "#777777", "#1b5e86"
_IMAGE_IN, _REPORT_IN, _GAP_IN, _HEAD_IN, _LABEL_IN = 1.65, 1.8, 0.12, 0.75, 0.2
_CHARACTERS_AN_INCH = 72 / (0.53 * _TEXT_PT)
_Place = tuple[float, float, float, float]
_REPORT_LINES = round(_IMAGE_IN * 72 / (_TEXT_PT * 1.25))


@dataclass(frozen=True)
class Sample:
    """An image with its report and its labels."""

    image_HW: NDArray[np.uint8]
    report: str
    labels: Sequence[str]


@dataclass(frozen=True)
class SamplePair:
    """A real sample and the synthetic one shown beside it."""

    real: Sample
    synthetic: Sample


def draw_pairs(pairs: Sequence[SamplePair], title: str) -> dict[str, bytes]:
    """Draw one pair per row, real left, synthetic right: figures 8 and 9. Returns the picture by file type."""
    half = _IMAGE_IN + _GAP_IN + _REPORT_IN
    width = 2 * half + 4 * _GAP_IN
    step = _IMAGE_IN + _LABEL_IN + _GAP_IN
    height = _HEAD_IN + step * len(pairs)
    figure = _new_figure(width, height, title)
    for side, head in enumerate(("Real sample", "Synthetic sample")):
        left = _GAP_IN + side * (half + 2 * _GAP_IN)
        figure.text((left + half / 2) / width, 1 - 0.55 / height, head, fontsize=_HEAD_PT, ha="center", va="center",
                    weight="bold", color=_TEXT)  # fmt: skip
        for row, pair in enumerate(pairs):
            sample = pair.synthetic if side else pair.real
            top = height - _HEAD_IN - row * step
            labels = _cut(", ".join(sample.labels).replace("_", " ") or "no label", half * _CHARACTERS_AN_INCH)
            figure.text(left / width, (top - _LABEL_IN / 2) / height, labels, fontsize=_LABEL_PT, va="center",
                        weight="bold", color=_LABEL)  # fmt: skip
            bottom = top - _LABEL_IN - _IMAGE_IN
            _show(figure.add_axes(_share(left, bottom, _IMAGE_IN, _IMAGE_IN, figure)), sample.image_HW)
            figure.text((left + _IMAGE_IN + _GAP_IN) / width, (bottom + _IMAGE_IN) / height, _report(sample.report),
                        fontsize=_TEXT_PT, va="top", linespacing=1.25,
                        color=_TEXT if sample.report else _SOFT)  # fmt: skip
    return _written(figure)


def draw_images(image_NHW: NDArray[np.uint8], title: str, columns: int, image_in: float = 1.1) -> dict[str, bytes]:
    """Draw a grid of images: figures 10 to 12. Returns the picture by file type."""
    gap = 0.05
    rows = -(-len(image_NHW) // columns)
    width, height = columns * (image_in + gap) + gap, rows * (image_in + gap) + gap + 0.35
    figure = _new_figure(width, height, title)
    for place, image_HW in enumerate(image_NHW):
        left = gap + place % columns * (image_in + gap)
        bottom = height - 0.35 - (place // columns + 1) * (image_in + gap)
        _show(figure.add_axes(_share(left, bottom, image_in, image_in, figure)), image_HW)
    return _written(figure)


def _new_figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    fits = int(width * 72 / (0.53 * _TITLE_PT))
    figure.text(0.08 / width, 1 - 0.18 / height, _cut(title, fits), fontsize=_TITLE_PT, va="center", color=_SOFT)
    return figure


def _share(left: float, bottom: float, width: float, height: float, figure: Figure) -> _Place:
    """Convert a rectangle in inches to fractions of the figure."""
    whole_width, whole_height = figure.get_size_inches()
    return left / whole_width, bottom / whole_height, width / whole_width, height / whole_height


def _show(axes: Axes, image_HW: NDArray[np.uint8]) -> None:
    axes.imshow(image_HW, cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
    axes.set_axis_off()


def _report(text: str) -> str:
    """Report wrapped to fit beside its image; the last line ends in an ellipsis if text is cut."""
    lines = textwrap.wrap(text or "(no report)", int(_REPORT_IN * _CHARACTERS_AN_INCH))
    if len(lines) > _REPORT_LINES:
        lines = [*lines[: _REPORT_LINES - 1], f"{lines[_REPORT_LINES - 1].rstrip()} …"]
    return "\n".join(lines).replace("$", r"\$")


def _cut(text: str, characters: float) -> str:
    return (text if len(text) <= characters else f"{text[: int(characters) - 1].rstrip()}…").replace("$", r"\$")


def _written(figure: Figure) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    # no date, so that the same figures give the same files; fonts embedded as text, so that it can be edited
    about: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}}
    with mpl.rc_context({"pdf.fonttype": 42}):
        for kind in KINDS:
            out = io.BytesIO()
            figure.savefig(out, format=kind, metadata=about[kind])
            found[kind] = out.getvalue()
    return found
