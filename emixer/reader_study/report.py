"""Figures of a reader study -> tables in Markdown, CSV and LaTeX, beside the paper's figures, and the comments.

Source: EMIXER §4.5.3 and figure 2: the paper's two radiologists gave one score per pair.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

from emixer.latex import in_latex
from emixer.markdown import table_row
from emixer.reader_study.folder import StudyFacts
from emixer.reader_study.rating import KINDS, SCALES
from emixer.reader_study.ratings import GUESS, MEASURES, WHOLE, Ratings
from emixer.reader_study.statistics import MIN_PAIRS, MIN_READERS, Figure, covers_other_readers

PAPER = {"pair/real": (7.825, 1.17), "pair/synthetic": (7.34, 1.321), "pair/kappa between": (0.832, None)}
"""Mean and sd, for pairs of MIMIC-CXR at 128 px."""
_NAMES = {WHOLE: "Pair (mean of the three)", "image": "Image", "report": "Report", "agreement": "Agreement of both",
          GUESS: "Guess: real or synthetic"}  # fmt: skip
_NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> list[str]:
        """Lines of a Markdown table."""
        lines = [f"## {self.title}", "", table_row(self.columns), "|" + " --- |" * len(self.columns)]
        return [*lines, *map(table_row, self.rows), ""]

    def latex(self) -> list[str]:
        """Lines of a booktabs tabular."""
        rows = [" & ".join(map(in_latex, row)) + r" \\" for row in self.rows]
        return [
            f"% {self.title}", rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"\toprule",
            " & ".join(map(in_latex, self.columns)) + r" \\", r"\midrule", *rows, r"\bottomrule",
        ]  # fmt: skip


@dataclass(frozen=True)
class Report:
    """Everything that is reported of a study."""

    facts: StudyFacts
    ratings: Ratings
    figures: Mapping[str, Figure]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables of scores, agreement, guesses and labels; none before anything is scored."""
        if not self.figures:
            return ()
        return self._scores(), self._kappas(), self._guesses(), self._labels()

    def markdown(self) -> str:
        """The report as Markdown."""
        facts = self.facts
        lines = [
            f"# Reader study {facts.study_id}", "",
            f"{facts.pairs} real and {facts.pairs} synthetic pairs, {facts.side_px} px. {self._measured_on()}", "",
            f"**{self.progress()}**", "",
        ]  # fmt: skip
        for table in self.tables:
            lines += table.markdown()
        lines += [*(f"- {note}" for note in self._notes()), "", *self._comments()]
        return "\n".join(lines)

    def latex(self) -> str:
        """The tables as LaTeX, each with the notes as its last lines, so that they are copied along."""
        lines: list[str] = []
        for table in self.tables:
            note = rf"\multicolumn{{{len(table.columns)}}}{{p{{\linewidth}}}}{{\footnotesize {{}}}} \\"
            notes = [note.replace("{}", in_latex(text)) for text in (self.progress(), *self._notes())]
            lines += [*table.latex(), *notes, r"\end{tabular}", ""]
        return "\n".join(lines)

    def csv(self) -> str:
        """CSV with one line per figure and six digits per number."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["figure", "value", "sd", "low", "high", "ratings", "paper", "paper_sd", "measured_on"])
        for name, figure in self.figures.items():
            numbers = [figure.value, figure.sd, figure.low, figure.high, figure.count, *PAPER.get(name, (None, None))]
            writer.writerow([name, *map(_csv_number, numbers), self._measured_on()])
        return out.getvalue()

    def ratings_csv(self) -> str:
        """CSV with one line per rating, with key and comments, for further analyses."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["reader", "item", "showing", "kind", "stratum", "labels", *SCALES, "guess", "comment"])
        for pair in self.ratings.pairs:
            for showing, rating in enumerate((pair.rating, pair.again), start=1):
                if rating is not None:
                    entry = pair.entry
                    scores = [getattr(rating, scale) for scale in SCALES]
                    writer.writerow([pair.reader, pair.item, showing, entry.kind, entry.stratum, "|".join(entry.labels),
                                     *scores, rating.guess, _no_formula(rating.comment)])  # fmt: skip
        return out.getvalue()

    def progress(self) -> str:
        """Progress of the readers, in words."""
        done = sum(scored for scored, _ in self.ratings.progress.values())
        of = sum(total for _, total in self.ratings.progress.values())
        if done == of:
            return f"Finished: {len(self.ratings.progress)} readers have scored all their pairs."
        missing = [f"{name} {of - done} of {of}" for name, (done, of) in self.ratings.progress.items() if done < of]
        shown = ", ".join(missing[:20]) + (f" and {len(missing) - 20} more readers" if len(missing) > 20 else "")
        return f"Not finished: {done:,} of {of:,} scores are in. Missing: {shown}."

    def _scores(self) -> Table:
        rows = []
        for measure in MEASURES:
            real, synthetic, gap = (self.figures.get(f"{measure}/{w}") for w in (*KINDS, "difference"))
            papers = [_paper(f"{measure}/{kind}", 2) for kind in KINDS]
            rows.append(
                (_NAMES[measure], in_words(real), papers[0], in_words(synthetic), papers[1], in_words(gap, "+"))
            )
        columns = ("Score", "Real", "(paper)", "Synthetic", "(paper)", "Real less synthetic")
        return Table("Scores (paper: figure 2)", columns, tuple(rows))

    def _kappas(self) -> Table:
        rows = []
        for measure in (*MEASURES, GUESS):
            between, within = (self.figures.get(f"{measure}/kappa {which}") for which in ("between", "within"))
            paper = _paper(f"{measure}/kappa between", 3)
            rows.append((_NAMES[measure], in_words(between), paper, in_words(within)))
        columns = ("Weighted κ", "Between readers", "(paper)", "Within a reader, pairs seen twice")
        return Table("Agreement of readers", columns, tuple(rows))

    def _guesses(self) -> Table:
        names = {"all": "All pairs", "real": "Real pairs", "synthetic": "Synthetic pairs"}
        figures = [(name, self.figures.get(f"right/{which}")) for which, name in names.items()]
        rows = tuple((name, in_percent(f), "0" if f is None else f"{f.count:,}") for name, f in figures)
        return Table("Real or synthetic?", ("Guessed", "Right", "Guesses"), rows)

    def _labels(self) -> Table:
        rows = []
        for stratum in self.facts.strata:
            of = {w: self.figures.get(f"label/{stratum}/{w}") for w in (*KINDS, "difference", "right/all")}
            words = [in_words(of[kind]) for kind in KINDS]
            rows.append(
                (stratum.replace("_", " "), *words, in_words(of["difference"], "+"), in_percent(of["right/all"]))
            )
        columns = ("Label", "Real", "Synthetic", "Real less synthetic", "Guessed right")
        return Table("By label: the pair as a whole", columns, tuple(rows))

    def _measured_on(self) -> str:
        facts = self.facts
        sources = ", ".join(facts.sources) or "the shards"
        return f"Real pairs: {sources}, {facts.split} split. Readers: {len(self.ratings.readers)}."

    def _notes(self) -> list[str]:
        whom = (
            "other pairs and other readers" if covers_other_readers(self.ratings) else
            f"these readers on other pairs; what other readers would say cannot be told from fewer than {MIN_READERS}"
        )  # fmt: skip
        notes = [
            f"Mean ± sd over ratings [95 % interval for {whom}]. Intervals of κ are for these readers "
            f"on other pairs. Fewer than {MIN_PAIRS} pairs of a kind have none.",
            "A pair counts by its first showing; the second is for the agreement of a reader with themselves alone.",
            "κ has quadratic weights: the mean over pairs of readers, and over readers. The paper does not say which "
            "kappa its 0.832 is.",
            "The paper's two radiologists gave each pair of MIMIC-CXR one score from 1 to 10; here it is the mean of "
            "three. Ours are no reproduction of its figures.",
        ]
        kinds = [pair.entry.kind for pair in self.ratings.pairs]
        if all(2 * kinds.count(kind) == len(kinds) for kind in KINDS):  # always so once all pairs are scored
            notes.append("Half of the pairs are real, so guessing blindly is right half of the time.")
        return notes

    def _comments(self) -> list[str]:
        said = [
            (pair.reader, pair.entry.kind, pair.entry.stratum, rating.comment)
            for pair in self.ratings.pairs
            for rating in (pair.rating, pair.again)
            if rating is not None and rating.comment.strip()
        ]
        if not said:
            return []
        lines = ["## Comments", ""]
        return [
            *lines,
            *(f"- {reader}, {kind}, {stratum}: {_one_line(text)}" for reader, kind, stratum, text in said),
            "",
        ]


def in_words(figure: Figure | None, sign: str = "") -> str:
    """Format a figure as `7.82 ± 1.17 [7.41, 8.20]`."""
    if figure is None:
        return _NOTHING
    spread = f" ± {figure.sd:.2f}" if math.isfinite(figure.sd) else ""
    between = f" [{figure.low:{sign}.2f}, {figure.high:{sign}.2f}]" if math.isfinite(figure.low) else ""
    return f"{figure.value:{sign}.2f}{spread}{between}"


def in_percent(figure: Figure | None) -> str:
    """Format a share as `62 % [54, 70]`."""
    if figure is None:
        return _NOTHING
    between = f" [{100 * figure.low:.0f}, {100 * figure.high:.0f}]" if math.isfinite(figure.low) else ""
    return f"{100 * figure.value:.0f} %{between}"


def _paper(name: str, digits: int) -> str:
    mean, sd = PAPER.get(name, (None, None))
    if mean is None:
        return _NOTHING
    return f"{mean:.{digits}f}" if sd is None else f"{mean} ± {sd}"


def _csv_number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _no_formula(text: str) -> str:
    """Escape a reader's text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _one_line(text: str) -> str:
    """A reader's text on one line, escaped so that Markdown shows it verbatim."""
    flat = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|~&" else c for c in flat)
