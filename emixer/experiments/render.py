"""Results of cells -> a table in Markdown, CSV and LaTeX: ours as mean ± sd over seeds with an interval by resampling
the test subjects, beside what the paper prints."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from emixer.evaluation.resampling import interval, mean_over
from emixer.experiments.cells import Cell, CellResult
from emixer.experiments.paper import Printed
from emixer.experiments.tables import Column, Row, Table

_PLUS_MINUS = r" \pm "
_MARKS = (
    "▲ above, ▼ below the first row (of the same class, where there are classes) on the same resamples of test "
    "subjects, by an interval that excludes 0; how far is in the CSV. Of many entries, one in twenty would be marked "
    "so by chance."
)


@dataclass(frozen=True)
class Entry:
    """One figure of ours: over seeds, with the test set's own uncertainty, and against the first row."""

    mean: float
    sd: float
    """Over seeds; NaN for fewer than two."""
    low: float
    high: float
    gain: float
    """Less the mean of the first row (of table 5: of the same class); NaN there."""
    gain_low: float
    gain_high: float
    num_seeds: int


@dataclass(frozen=True)
class FilledTable:
    """A table with what is known of it. entries: None where cells are missing, with the reason in `missing`."""

    table: Table
    seeds: tuple[int, ...]
    entries: Mapping[tuple[int, int], Entry | None]
    missing: Mapping[tuple[int, int], str]
    measured_on: str
    """What data ours were measured on, in a sentence."""

    def markdown(self) -> str:
        """With the paper's figure beside each of ours."""
        titles = [part for column in self.table.columns for part in (column.title, f"{column.title} (paper)")]
        lines = [f"## {self.table.title}", "", *_markdown_row(["Method", "Data", *titles])]
        lines += ["|" + " --- |" * (2 + len(titles))]
        for index, row in enumerate(self.table.rows):
            cells = [part for c, column in enumerate(self.table.columns) for part in self._both(index, c, row, column)]
            lines += _markdown_row([row.method, row.data, *cells])
        return "\n".join([*lines, "", *(f"- {note}" for note in self._notes()), ""])

    def csv(self) -> str:
        """One line an entry, six digits a number."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["method", "data", "metric", "mean", "sd", "low", "high", "gain", "gain_low", "gain_high",
                         "seeds", "paper_mean", "paper_sd"])  # fmt: skip
        for index, row in enumerate(self.table.rows):
            for c, column in enumerate(self.table.columns):
                entry, printed = self.entries[index, c], row.paper.get(column.paper)
                ours = list(astuple(entry)) if entry is not None else [None] * len(fields(Entry))
                theirs = [None, None] if printed is None else [printed.mean, printed.sd]
                writer.writerow(map(_csv_value, [row.method, row.data, column.title, *ours, *theirs]))
        return out.getvalue()

    def latex(self) -> str:
        """A tabular of booktabs."""
        columns = self.table.columns
        lines = [
            f"% {self.table.title}",
            *(f"% {_arrows(note)}" for note in self._notes()),
            rf"\begin{{tabular}}{{ll{'rr' * len(columns)}}}",
            r"\toprule",
            " & ".join(["Method", "Data", *(f"{_latex(c.title)} & (paper)" for c in columns)]) + r" \\",
            r"\midrule",
        ]
        for index, row in enumerate(self.table.rows):
            cells = [_latex(row.method), _latex(row.data)]
            for c, column in enumerate(columns):
                entry, printed = self.entries[index, c], row.paper.get(column.paper)
                cells.append("--" if entry is None else _in_latex(entry, column))
                cells.append("--" if printed is None else str(printed))
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def _both(self, index: int, c: int, row: Row, column: Column) -> tuple[str, str]:
        entry = self.entries[index, c]
        ours = self.missing.get((index, c), "") if entry is None else entry_in_words(entry, column)
        printed: Printed | None = row.paper.get(column.paper)
        return ours, "" if printed is None else str(printed)

    def _notes(self) -> list[str]:
        seeds = len(self.seeds)
        marked = any(entry and _direction(entry) for entry in self.entries.values())
        return [
            f"Ours: mean ± sd over {seeds} seed{'s' * (seeds != 1)} [95 % interval of that mean, test subjects "
            f"resampled]. {self.measured_on} The paper's figures are of MIMIC-CXR: ours are no reproduction of them.",
            *([_MARKS] if marked else []),
            *self.table.notes,
        ]


def filled(
    table: Table, seeds: tuple[int, ...], results: Mapping[Cell, CellResult | str], measured_on: str
) -> FilledTable:
    """Puts results into a table; a text stands for a cell that is missing, and says why."""
    entries: dict[tuple[int, int], Entry | None] = {}
    missing: dict[tuple[int, int], str] = {}
    first_of = {row.suffix: index for index, row in reversed(list(enumerate(table.rows)))}
    for c, column in enumerate(table.columns):
        bases: dict[str, _Measured] = {}
        for index, row in enumerate(table.rows):
            measured = _measured(column.figure + row.suffix, [results[x] for x in table.cells(row, column, seeds)])
            if isinstance(measured, str):
                entries[index, c], missing[index, c] = None, measured
                continue
            entries[index, c] = _entry(measured, bases.get(row.suffix))
            # where the first is missing, nothing is compared with another in its place
            if index == first_of[row.suffix]:
                bases[row.suffix] = measured
    return FilledTable(table, seeds, entries, missing, measured_on)


def entry_in_words(entry: Entry, column: Column) -> str:
    """`0.824 ± 0.003 [0.811, 0.836] ▲`."""
    between = (
        f" [{_number(entry.low, column)}, {_number(entry.high, column)}]" if math.isfinite(entry.low) else ""
    )  # fmt: skip
    return _with_spread(entry, column, " ± ") + between + ("", " ▲", " ▼")[_direction(entry)]


def _direction(entry: Entry) -> int:
    """1 or -1 where the paired interval lies above or below the first row, else 0."""
    return int(entry.gain_low > 0) - int(entry.gain_high < 0)  # 0 for NaN


@dataclass(frozen=True)
class _Measured:
    values: NDArray[np.float64]
    """One a seed."""
    resampled_R: NDArray[np.float64] | None
    """Their mean in each resample."""


def _measured(name: str, found: Sequence[CellResult | str]) -> _Measured | str:
    whole = [result for result in found if isinstance(result, CellResult)]
    reason = next((each for each in found if isinstance(each, str)), None)
    if reason is not None:
        return reason
    values = np.array([result.figures.get(name, math.nan) for result in whole])
    if not np.isfinite(values).all():
        return "not defined"
    resampled = [result.resampled for result in whole]
    return _Measured(values, mean_over(resampled, name) if all(name in each for each in resampled) else None)


def _entry(measured: _Measured, base: _Measured | None) -> Entry:
    low, high = gain_low, gain_high = math.nan, math.nan
    if measured.resampled_R is not None:
        low, high = interval(measured.resampled_R)
        if base is not None and base.resampled_R is not None:
            gain_low, gain_high = interval(measured.resampled_R - base.resampled_R)
    values = measured.values
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
    gain = math.nan if base is None else mean - float(base.values.mean())
    return Entry(mean, sd, low, high, gain, gain_low, gain_high, len(values))


def _markdown_row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]


def _number(value: float, column: Column) -> str:
    return f"{value:.{column.digits}f}"


def _with_spread(entry: Entry, column: Column, sign: str) -> str:
    spread = f"{sign}{_number(entry.sd, column)}" if math.isfinite(entry.sd) else ""
    return _number(entry.mean, column) + spread


def _arrows(note: str) -> str:
    return note.replace("▲", r"\uparrow").replace("▼", r"\downarrow")


def _in_latex(entry: Entry, column: Column) -> str:
    mark = ("", r"^{\uparrow}", r"^{\downarrow}")[_direction(entry)]
    return f"${_with_spread(entry, column, _PLUS_MINUS)}{mark}$"


def _csv_value(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value


def _latex(text: str) -> str:
    return re.sub(r"[%&_#$]", r"\\\g<0>", text)
