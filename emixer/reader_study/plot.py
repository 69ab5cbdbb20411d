"""Plot of a study: frequencies of the scores of real and of synthetic pairs, and their means."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray

from emixer.reader_study.rating import HIGHEST, KINDS, LOWEST, SCALES
from emixer.reader_study.ratings import MEASURES, WHOLE, Ratings
from emixer.reader_study.report import PAPER, Report

_COLORS = {"real": "#4a6a94", "synthetic": "#b45309"}
_TITLES = {"image": "Image", "report": "Report", "agreement": "Agreement"}
_WIDTH_IN, _HEIGHT_IN = 10.5, 3.4


def plot(report: Report) -> bytes:
    """Plot a study as PNG."""
    picture = Picture(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=130, layout="constrained")
    FigureCanvasAgg(picture)
    means, *panels = picture.subplots(1, 1 + len(SCALES), width_ratios=[1.5, 1, 1, 1])
    _draw_means(means, report)
    kind_N = np.array([pair.entry.kind for pair in report.ratings.pairs])
    for panel, scale in zip(panels, SCALES, strict=True):
        _draw_scores(panel, report.ratings, scale, kind_N)
    panels[0].set_ylabel("share of ratings [%]", fontsize=8)
    for panel in (means, *panels):
        panel.tick_params(labelsize=7, length=2)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    out = io.BytesIO()
    picture.savefig(out, format="png")
    return out.getvalue()


def _draw_means(panel: Axes, report: Report) -> None:
    for row, measure in enumerate(MEASURES):
        for kind, shift in zip(KINDS, (-0.13, 0.13), strict=True):
            figure = report.figures.get(f"{measure}/{kind}")
            if figure is not None:
                panel.plot([figure.low, figure.high], [row + shift] * 2, "-", color=_COLORS[kind], lw=1.6)
                panel.plot(figure.value, row + shift, "o", color=_COLORS[kind], ms=5)
            if measure == WHOLE:
                panel.plot(PAPER[f"{measure}/{kind}"][0], row + shift, "o", mfc="none", mec=_COLORS[kind], ms=8)
    panel.set_yticks(range(len(MEASURES)), ["Pair", *_TITLES.values()], fontsize=8)
    panel.set_ylim(len(MEASURES) - 0.5, -0.5)
    panel.set_xlim(LOWEST, HIGHEST)
    panel.grid(axis="x", color="#dddddd", lw=0.5)
    panel.set_title("Means, 95 % intervals (rings: the paper)", fontsize=9)


def _draw_scores(panel: Axes, ratings: Ratings, scale: str, kind_N: NDArray[np.str_]) -> None:
    values = ratings.values(scale)
    scores = np.arange(LOWEST, HIGHEST + 1)
    for kind, shift in zip(KINDS, (-0.21, 0.21), strict=True):
        given = values[kind_N == kind]
        shares = [100 * float((given == score).mean()) if len(given) else 0.0 for score in scores]
        panel.bar(scores + shift, shares, 0.42, color=_COLORS[kind], label=kind)
    panel.set_title(_TITLES[scale], fontsize=9)
    panel.set_xticks(scores)
