"""Plot of a table: one panel per column, one line per row, ours with its interval and the paper's figure as a ring."""

import io
import textwrap

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emixer.experiments.render import FilledTable

_OURS, _PAPER, _GRID = "#1b5e86", "#b0532b", "#dddddd"
_ROW_IN, _PANEL_IN, _NAMES_IN, _FOOT_IN = 0.24, 1.9, 2.3, 0.25
_TITLE_PT, _NOTE_PT = 10, 7
_EXPLAINED = "Dots: ours, mean over seeds with the 95 % interval of the test subjects.  Rings: the paper, on MIMIC-CXR."


def plot(filled: FilledTable) -> bytes:
    """Plot a table as PNG."""
    table = filled.table
    num_rows, num_columns = len(table.rows), len(table.columns)
    width = _NAMES_IN + _PANEL_IN * num_columns
    texts = [(table.title, _TITLE_PT), (_EXPLAINED, _NOTE_PT), (filled.measured_on, _NOTE_PT)]
    lines = [(line, size) for text, size in texts for line in _wrapped(text, size, width)]
    head = 0.15 + sum(map(_line_in, (size for _, size in lines))) + 0.4
    height = head + _ROW_IN * num_rows + _FOOT_IN
    figure = Figure(figsize=(width, height), dpi=130)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, num_columns, sharey=True, squeeze=False)[0]
    for c, (panel, column) in enumerate(zip(panels, table.columns, strict=True)):
        for index, row in enumerate(table.rows):
            entry, printed = filled.entries[index, c], row.paper.get(column.paper)
            if printed is not None:
                panel.plot(printed.mean, index, "o", mfc="none", mec=_PAPER, ms=4, zorder=2)
            if entry is not None:
                panel.plot([entry.low, entry.high], [index, index], "-", color=_OURS, lw=1.2, zorder=3)
                panel.plot(entry.mean, index, "o", color=_OURS, ms=4, zorder=4)
            if index == 0 and entry is not None:
                panel.axvline(entry.mean, color=_OURS, lw=0.7, ls=":", zorder=1)
        panel.set_title(column.title, fontsize=9)
        panel.tick_params(labelsize=7, length=2)
        panel.grid(axis="x", color=_GRID, lw=0.5)
        panel.margins(x=0.12)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0].set_yticks(range(num_rows), [f"{row.method}  {row.data}" for row in table.rows], fontsize=7)
    panels[0].set_ylim(num_rows - 0.5, -0.5)
    top = height - 0.15
    for line, size in lines:
        bold = size == _TITLE_PT
        figure.text(0.12 / width, top / height, line, fontsize=size, va="top", weight="bold" if bold else "normal",
                    color="black" if bold else "#444444")  # fmt: skip
        top -= _line_in(size)
    figure.subplots_adjust(
        left=_NAMES_IN / width, right=1 - 0.15 / width, top=1 - head / height, bottom=_FOOT_IN / height, wspace=0.12
    )
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _line_in(size_pt: float) -> float:
    """Height of a line of text [in]."""
    return size_pt * 1.6 / 72


def _wrapped(text: str, size_pt: float, width_in: float) -> list[str]:
    """Wrap text to the width; letters of this font are on average less than 0.57 of its size wide."""
    return textwrap.wrap(text, int((width_in - 0.3) * 72 / (0.57 * size_pt)))
