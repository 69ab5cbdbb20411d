"""Results of cells -> a table in Markdown, CSV and LaTeX: our mean ± sd over seeds with an interval by resampling the
test subjects, beside the paper's figures.

Shapes: R resamples, U independent repetitions (seeds, or generators that are trained several times).
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emixer.evaluation.resampling import MIN_SEEDS, interval, mean_over, paired_interval
from emixer.experiments.cells import Cell, CellResult
from emixer.experiments.paper import Printed
from emixer.experiments.tables import Column, Row, Table
from emixer.latex import in_latex
from emixer.markdown import table_row

_MARKS = (
    "▲ above, ▼ below the first row (of the same class, or with the same number of real pairs): the 95 % interval "
    "of the difference, over {}, excludes 0; differences are in the CSV. {} One in twenty entries that do not differ "
    "would be marked."
)
_OWN_TRAINING = "Each seed has a generator of its own."
_ONE_TRAINING = "Each generator is trained once, so variation between generator trainings is not included."
_TRAININGS = (
    "Each generator is trained {} times, with different seeds, which the seeds of downstream models use in turn; for "
    "an interval, the seeds of one generator count as one value, their mean."
)
_FEW_SEEDS = "{} seed{} cannot separate a gain from training noise: at least {} are needed, so nothing is marked."
_NO_REPRODUCTION = " The paper's figures are for MIMIC-CXR: ours do not reproduce them."
_DONE = "done"
_COLUMNS = ("method", "data", "metric", "mean", "sd", "low", "high", "gain", "gain_low", "gain_high", "seeds",
            "paper_mean", "paper_sd", "status", "encoder", "measured_on")  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One of our figures: over seeds, with the uncertainty of the test set, and relative to the first row."""

    mean: float
    sd: float
    """Over seeds; NaN for fewer than two."""
    low: float
    high: float
    """Interval of the mean, for these trained models on other test subjects."""
    gain: float
    """Mean difference from the first row of its group, over the seeds of both; NaN in that row."""
    gain_low: float
    gain_high: float
    """Interval of the gain, for retrained models and other test subjects; NaN for fewer than MIN_SEEDS seeds."""
    num_seeds: int


@dataclass(frozen=True)
class FilledTable:
    """A table with its results so far, by row and column."""

    table: Table
    seeds: tuple[int, ...]
    entries: Mapping[tuple[int, int], Entry | None]
    """None where all cells are missing."""
    missing: Mapping[tuple[int, int], str]
    """Why an entry, or some of its seeds, are missing."""
    networks: Mapping[tuple[int, int], str]
    """How a distance was measured: encoder, size and number of images."""
    measured_on: str
    """The data that our figures were measured on, as a sentence."""

    def markdown(self) -> str:
        """Markdown with the paper's figure beside each of ours, or with the gain where the paper has none."""
        beside = "(paper)" if self.table.has_printed else "gain"
        titles = [part for column in self.table.columns for part in (column.title, f"{column.title} {beside}")]
        lines = [f"## {self.table.title}", "", table_row(["Method", "Data", *titles])]
        lines += ["|" + " --- |" * (2 + len(titles))]
        for index, row in enumerate(self.table.rows):
            cells = [part for c, column in enumerate(self.table.columns) for part in self._both(index, c, row, column)]
            lines.append(table_row([row.method, row.data, *cells]))
        return "\n".join([*lines, "", *(f"- {note}" for note in self._notes()), ""])

    def csv(self) -> str:
        """CSV with one line per entry and six digits per number."""
        out = io.StringIO()
        writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _csv_value(value) for name, value in row.items()} for row in self.rows())
        return out.getvalue()

    def rows(self) -> list[dict[str, Any]]:
        """One an entry, with the columns of the CSV."""
        rows = []
        for index, row in enumerate(self.table.rows):
            for c, column in enumerate(self.table.columns):
                entry, printed = self.entries[index, c], row.paper.get(column.paper)
                ours = list(astuple(entry)) if entry is not None else [None] * len(fields(Entry))
                theirs = [None, None] if printed is None else [printed.mean, printed.sd]
                status, network = self.missing.get((index, c), _DONE), self.networks.get((index, c))
                values = [row.method, row.data, column.title, *ours, *theirs, status, network, self.measured_on]
                rows.append(dict(zip(_COLUMNS, values, strict=True)))
        return rows

    def latex(self) -> str:
        """A booktabs tabular with the notes as its last lines, so that they are copied along."""
        columns = self.table.columns
        width, beside = 2 + 2 * len(columns), "(paper)" if self.table.has_printed else "gain"
        lines = [
            f"% {self.table.title}",
            rf"\begin{{tabular}}{{ll{'rr' * len(columns)}}}",
            r"\toprule",
            " & ".join(["Method", "Data", *(f"{in_latex(c.title)} & {beside}" for c in columns)]) + r" \\",
            r"\midrule",
        ]
        for index, row in enumerate(self.table.rows):
            cells = [in_latex(row.method), in_latex(row.data)]
            for c, column in enumerate(columns):
                ours, printed = self._both(index, c, row, column)
                cells += [in_latex(ours), in_latex(printed) or "--"]
            lines.append(" & ".join(cells) + r" \\")
        notes = (
            rf"\multicolumn{{{width}}}{{p{{\linewidth}}}}{{\footnotesize {in_latex(n)}}} \\" for n in self._notes()
        )
        return "\n".join([*lines, r"\bottomrule", *notes, r"\end{tabular}", ""])

    def _both(self, index: int, c: int, row: Row, column: Column) -> tuple[str, str]:
        """Our figure and, beside it, the paper's or the gain, as text."""
        entry, missing = self.entries[index, c], self.missing.get((index, c), "")
        ours = missing if entry is None else entry_in_words(entry, column) + (f" ({missing})" if missing else "")
        if not self.table.has_printed:
            return ours, "" if entry is None else _gain_in_words(entry, column)
        printed: Printed | None = row.paper.get(column.paper)
        return ours, "" if printed is None else str(printed)

    def _notes(self) -> list[str]:
        seeds, plural = len(self.seeds), "s" * (len(self.seeds) != 1)
        marked = any(entry and _direction(entry) for entry in self.entries.values())
        has_gains = any(entry and math.isfinite(entry.gain) for entry in self.entries.values())
        return [
            f"Ours: mean ± sd over {seeds} seed{plural} [95 % interval of the mean of these models, test subjects "
            f"resampled]{self._distances()}. {self.measured_on}" + (_NO_REPRODUCTION if self.table.has_printed else ""),
            *([self._marks()] if marked else []),
            *([_FEW_SEEDS.format(seeds, plural, MIN_SEEDS)] if has_gains and seeds < MIN_SEEDS else []),
            *self.table.notes,
        ]

    def _distances(self) -> str:
        """What distances, which no downstream seed changes, are means over where that is more than one value."""
        titles = [column.title for column in self.table.columns if column.task == "distance"]
        if not titles or self.table.trainings == 1:
            return ""
        return f"; {', '.join(titles)}: over {self.table.trainings} trainings of the generator, without an interval"

    def _trainings(self) -> str:
        """Which variation between trainings of a generator the intervals include."""
        if self.table.own_generators and self.table.redraws:
            return _OWN_TRAINING
        return _TRAININGS.format(self.table.trainings) if self.table.trainings > 1 else _ONE_TRAINING

    def _marks(self) -> str:
        """What the marks stand for."""
        has_own = self.table.own_generators and self.table.redraws
        over = ["retrained generators"] if self.table.trainings > 1 or has_own else []
        over += ["retrained downstream models (paired by seed)"]
        over += ["other draws of the real pairs"] if self.table.redraws else []
        return _MARKS.format(
            f"{', '.join(over)} and test subjects",
            self._trainings(),
        )


def filled(
    table: Table, seeds: tuple[int, ...], results: Mapping[Cell, CellResult | str], measured_on: str
) -> FilledTable:
    """Fill a table with results; for a missing cell, the result is a text that says why."""
    entries: dict[tuple[int, int], Entry | None] = {}
    missing: dict[tuple[int, int], str] = {}
    networks: dict[tuple[int, int], str] = {}
    first_of = {row.group: index for index, row in reversed(list(enumerate(table.rows)))}
    for c, column in enumerate(table.columns):
        bases: dict[tuple[str, int], _Measured] = {}
        for index, row in enumerate(table.rows):
            cells = table.cells(row, column, seeds)
            found = {cell.seed: results[cell] for cell in cells}
            whole = {seed: result for seed, result in found.items() if isinstance(result, CellResult)}
            units = {cell.seed: table.unit_of(cell) for cell in cells}
            measured = _measured(column.figure + row.suffix, whole, units) if whole else None
            entries[index, c] = None if measured is None else _entry(measured, bases.get(row.group))
            if reason := _reason(found, measured):
                missing[index, c] = reason
            if network := next((words for result in whole.values() if (words := network_in_words(result.facts))), ""):
                networks[index, c] = network
            # if the first row is missing, no other row takes its place in comparisons
            if index == first_of[row.group] and measured is not None:
                bases[row.group] = measured
    return FilledTable(table, seeds, entries, missing, networks, measured_on)


def network_in_words(facts: Mapping[str, Any]) -> str:
    """For a distance, `encoder at 64 px, 2,000 images per side`; empty otherwise."""
    if "encoder" not in facts:
        return ""
    return f"{facts['encoder']} at {facts['input_px']} px, {facts['images']:,} images per side"


def entry_in_words(entry: Entry, column: Column) -> str:
    """Format an entry as `0.824 ± 0.003 [0.811, 0.836] ▲`."""
    spread = f" ± {_number(entry.sd, column)}" if math.isfinite(entry.sd) else ""
    between = f" [{_number(entry.low, column)}, {_number(entry.high, column)}]" if math.isfinite(entry.low) else ""
    return _number(entry.mean, column) + spread + between + ("", " ▲", " ▼")[_direction(entry)]


def _gain_in_words(entry: Entry, column: Column) -> str:
    """Format a gain as `+0.031 [0.012, 0.050]`, without an interval for too few seeds; empty for a first row."""
    if not math.isfinite(entry.gain):
        return ""
    between = f" [{_number(entry.gain_low, column)}, {_number(entry.gain_high, column)}]"
    return f"{entry.gain:+.{column.digits}f}" + (between if math.isfinite(entry.gain_low) else "")


def _direction(entry: Entry) -> int:
    """1 or -1 where the paired interval lies above or below the first row, else 0."""
    return int(entry.gain_low > 0) - int(entry.gain_high < 0)  # 0 for NaN


@dataclass(frozen=True)
class _Measured:
    """One figure of the models of one mixture."""

    value_of: Mapping[int, float]
    """Value by seed."""
    resampled_of: Mapping[int, NDArray[np.float64]] | None
    """Values in each resample (R,), by seed."""
    num_subjects: int
    """Number of test subjects who are resampled; 0 if none are."""
    unit_of: Mapping[int, str]
    """Which independent repetition a seed belongs to."""


def _measured(name: str, found: Mapping[int, CellResult], units: Mapping[int, str]) -> _Measured | None:
    """The figure of each seed; None if it is undefined for any."""
    values = {seed: result.figures.get(name, math.nan) for seed, result in found.items()}
    if not all(map(math.isfinite, values.values())):
        return None
    has_resampled = all(name in result.resampled for result in found.values())
    if not has_resampled:
        return _Measured(values, None, 0, units)
    subjects = min(result.facts["test_subjects"] for result in found.values())
    return _Measured(values, {seed: r.resampled[name] for seed, r in found.items()}, subjects, units)


def _reason(found: Mapping[int, CellResult | str], measured: _Measured | None) -> str:
    """What an entry lacks; empty if it is complete."""
    told = [result for result in found.values() if isinstance(result, str)]
    if told and len(told) < len(found):
        return f"{told[0]}: {len(told)} of {len(found)} seeds" if measured is not None else "not defined"
    return told[0] if told else "" if measured is not None else "not defined"


def _entry(measured: _Measured, base: _Measured | None) -> Entry:
    low, high, gain, gain_low, gain_high = [math.nan] * 5
    values = np.array(list(measured.value_of.values()))
    if measured.resampled_of is not None:
        low, high = interval(mean_over(list(measured.resampled_of.values())))
    if base is not None:
        gain, gain_low, gain_high = _gain(measured, base)
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return Entry(mean, sd, low, high, gain, gain_low, gain_high, len(values))


def _gain(measured: _Measured, base: _Measured) -> tuple[float, float, float]:
    """Mean difference over the seeds that both have, and its interval, in which each independent repetition counts
    once."""
    seeds_of: dict[str, list[int]] = {}
    for seed in measured.value_of:
        if seed in base.value_of:
            seeds_of.setdefault(measured.unit_of[seed], []).append(seed)
    if not seeds_of:
        return math.nan, math.nan, math.nan
    difference_U = np.array([
        np.mean([measured.value_of[seed] - base.value_of[seed] for seed in seeds]) for seeds in seeds_of.values()
    ])  # fmt: skip
    gain = float(difference_U.mean())
    if measured.resampled_of is None or base.resampled_of is None:
        return gain, math.nan, math.nan
    resampled_UR = [
        mean_over([measured.resampled_of[seed] - base.resampled_of[seed] for seed in seeds])
        for seeds in seeds_of.values()
    ]
    return gain, *paired_interval(difference_U, mean_over(resampled_UR), measured.num_subjects)


def _number(value: float, column: Column) -> str:
    return f"{value:.{column.digits}f}"


def _csv_value(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else value
