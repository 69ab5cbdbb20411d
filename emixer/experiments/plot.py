"""A table as a picture: one panel a column, one line a row, ours with its interval and the paper's figure as a ring."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emixer.experiments.render import FilledTable

_OURS, _PAPER, _GRID = "#1b5e86", "#b0532b", "#dddddd"
_ROW_IN, _HEAD_IN, _PANEL_IN, _NAMES_IN = 0.24, 1.25, 1.9, 2.3


def plot(filled: FilledTable) -> bytes:
    """PNG."""
    table = filled.table
    num_rows, num_columns = len(table.rows), len(table.columns)
    width, height = _NAMES_IN + _PANEL_IN * num_columns, _HEAD_IN + _ROW_IN * num_rows
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
    head = 1 - 0.2 / height
    figure.text(0.012, head, table.title, fontsize=10, weight="bold", va="top")
    explained = (
        "Dots: ours, mean over seeds with the 95 % interval of the test subjects.  Rings: the paper, on MIMIC-CXR."
    )
    figure.text(0.012, head - 0.24 / height, explained, fontsize=7, color="#444444", va="top")
    figure.text(0.012, head - 0.40 / height, filled.measured_on, fontsize=7, color="#444444", va="top")
    figure.subplots_adjust(
        left=_NAMES_IN / width, right=1 - 0.15 / width, top=1 - 0.95 / height, bottom=0.25 / height, wspace=0.12
    )
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
