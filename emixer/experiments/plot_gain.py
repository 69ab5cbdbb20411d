"""Plot of the table `gain`: one panel per column, one line per use of synthetic pairs, gain against real pairs."""

import io
import math
from collections.abc import Iterator

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from emixer.experiments.render import Entry, FilledTable

_PANEL_IN = (4.2, 3.6)
_COLOURS = ("#1b5e86", "#b0532b", "#4d8b31", "#7a4fa3", "#c29a1c", "#2a9d8f", "#8d5a4a", "#5c677d")
_MARKERS = "osD^vP*X"
"""Of lines of real pairs, which are all grey."""
_DODGE = 1.035
"""Horizontal factor between neighbouring lines, so that their intervals do not overlap."""


def plot_gain(filled: FilledTable) -> bytes:
    """Plot the gains as PNG. Intervals are of the gain, over retrained models and resampled test subjects."""
    columns = filled.table.columns
    figure = Figure(figsize=(_PANEL_IN[0] * len(columns) + 2.6, _PANEL_IN[1] + 0.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    ways = list(dict.fromkeys((row.method, row.way) for row in filled.table.rows if row.way))
    sizes = sorted({row.num_real for row in filled.table.rows})
    for c, (panel, column) in enumerate(zip(panels, columns, strict=True)):
        for number, (method, way) in enumerate(ways):
            points = list(_points(filled, c, method, way))
            is_real = method == "More real"
            shift = _DODGE ** (number - (len(ways) - 1) / 2)
            panel.errorbar(
                [size * shift for size, _ in points], [entry.gain for _, entry in points],
                yerr=_half_widths([entry for _, entry in points]),
                label=way if is_real else f"{method}: {way}",
                color="#888888" if is_real else _COLOURS[number % 8],
                ls="--" if is_real else "-", marker=_MARKERS[number % 8] if is_real else "o", ms=3.5,
                lw=1.1, elinewidth=0.8, capsize=1.5,
            )  # fmt: skip
        panel.axhline(0, color="black", lw=0.7)
        panel.set_xscale("log")
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(labelsize=8)
        panel.set_xlabel("real pairs", fontsize=8)
        panel.set_ylabel(f"gain in {column.title} over real pairs alone", fontsize=8)
        panel.grid(axis="y", color="#dddddd", lw=0.5)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=7, frameon=False)
    figure.suptitle(filled.table.title, fontsize=10, x=0.01, ha="left", weight="bold")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _points(filled: FilledTable, c: int, method: str, way: str) -> Iterator[tuple[int, Entry]]:
    """Points of one line: number of real pairs and entry."""
    for index, row in enumerate(filled.table.rows):
        entry = filled.entries[index, c]
        if (row.method, row.way) == (method, way) and entry is not None and math.isfinite(entry.gain):
            yield row.num_real, entry


def _half_widths(entries: list[Entry]) -> list[list[float]]:
    """Half-widths below and above the gain; NaN, which draws nothing, where there is no interval."""
    return [[entry.gain - entry.gain_low for entry in entries], [entry.gain_high - entry.gain for entry in entries]]
