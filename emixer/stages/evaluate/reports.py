"""Figures of the reports that are compared: what they state, their variety, and their similarity to real reports of the
same labels.

Shapes: N images, Y labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from emixer.config import Config
from emixer.data.text import detokenize
from emixer.evaluation.chexbert import CONDITIONS, Chexbert
from emixer.evaluation.pair_metrics import Report, faithfulness, variety
from emixer.evaluation.radgraph_f1 import Radgraph
from emixer.evaluation.report_mentions import mentions
from emixer.evaluation.resampling import Figures
from emixer.evaluation.same_labels import References, same_label_references
from emixer.evaluation.spread import spread_rows
from emixer.evaluation.text_scores import distinct_n, text_scores, verbatim_share
from emixer.stages.evaluate.intervals import Measured, Spread, side_by_side, with_intervals
from emixer.stages.evaluate.sides import Sides, train_reports

_LONGEST_DISTINCT = 3
_T = TypeVar("_T")


@dataclass(frozen=True)
class Readers:
    """Networks that read reports; None where the user gave none."""

    chexbert: Chexbert | None
    radgraph: Radgraph | None

    @classmethod
    def of(cls, config: Config, device: torch.device) -> "Readers":
        """Load the networks before anything is measured, so that a wrong file is reported at once."""
        chexbert, radgraph = config.evaluate.chexbert, config.evaluate.radgraph
        return cls(
            None if chexbert is None else Chexbert(chexbert, device),
            None if radgraph is None else Radgraph(radgraph, device),
        )


def readers_in_words(config: Config) -> list[str]:
    """Return what reads the reports: the rule-based labeler, and the networks that the user gave."""
    given = {"CheXbert": config.evaluate.chexbert, "RadGraph": config.evaluate.radgraph}
    return ["rule-based labeler", *(name for name, folder in given.items() if folder is not None)]


def report_figures(config: Config, sides: Sides, readers: Readers) -> dict[str, Any]:
    """Figures of reports: what they state, their variety, and their similarity to real reports of the same labels."""
    held_out, labels_NY = sides.held_out, sides.held_out.table.labels_NY
    references: References = {}
    for study, subject, report, vector_Y in zip(
        sides.studies, held_out.subjects, held_out.reports, labels_NY, strict=True
    ):
        # images of a study share one report, which counts as one reference; unlabelled ones have no labels to share
        if report and not np.isnan(vector_Y).any():
            references.setdefault(vector_Y.tobytes(), {})[study] = subject, report
    told = [n for n in range(sides.num) if held_out.reports[n]]
    first_of_study = np.sort(np.unique([sides.studies[n] for n in told], return_index=True)[1])
    distinct = first_of_study if told else np.arange(sides.num)
    subjects = sides.subjects("real")
    written = {
        "generated": _Written(
            sides.generated_reports, sides.generated.labels_NY, [None] * sides.num, sides.subjects("generated"),
            spread_rows(sides.num, len(distinct)),
        )
    }  # fmt: skip
    if told:
        whose = [subjects[n] for n in told]
        real = [held_out.reports[n] or [] for n in told]
        written["real"] = _Written(real, labels_NY[told], whose, whose, distinct)
    figures = _stated(config, sides, readers, written)
    for kind, side in written.items():
        found, between = _texts(config, sides, readers, side, references)
        figures[kind] |= found
        figures["intervals"][kind] |= between
    return figures


@dataclass(frozen=True)
class _Written:
    """Reports of one side."""

    reports: list[Report]
    labels_NY: NDArray[np.float32]
    people: Sequence[str | None]
    """Whose each report is; None for generated ones. A person's reports are no references for each other."""
    subjects: Sequence[str]
    """What is resampled."""
    varied: NDArray[np.int64]
    """Rows whose variety is measured: the images of a real study share one report, and variety falls with the number,
    so these are one report of each study, and as many generated ones."""


def _stated(config: Config, sides: Sides, readers: Readers, written: Mapping[str, _Written]) -> dict[str, Any]:
    """Figures of what the reports of each side state."""
    names = sides.shape.label_names
    by_rules, by_chexbert = {}, {}
    for kind, side in written.items():
        labels_NY, stated_NY = torch.from_numpy(np.array(side.labels_NY)), mentions(side.reports, names)
        by_rules[kind] = Measured(partial(faithfulness, stated_NY, labels_NY, names), side.subjects)
        if readers.chexbert is not None:
            read_NY = readers.chexbert.mentions([detokenize(report) for report in side.reports], names)
            by_chexbert[kind] = Measured(partial(faithfulness, read_NY, labels_NY, names, CONDITIONS), side.subjects)
    found = side_by_side({"report_f1": by_rules}, config.evaluate.resamples)
    others = side_by_side({"report_f1": by_chexbert} if by_chexbert else {}, config.evaluate.resamples)
    found.means_over.update(_prefixed("chexbert", others.means_over))
    for kind in by_chexbert:
        found.figures[kind] |= _prefixed("chexbert", others.figures[kind])
        found.intervals[kind] |= _prefixed("chexbert", others.intervals[kind])
    return found.in_json()


def _texts(
    config: Config, sides: Sides, readers: Readers, written: _Written,
    references: References,
) -> tuple[Figures, Spread]:  # fmt: skip
    """Figures of the wording of one side's reports: variety, copies, similarity to real ones of the same labels."""
    reports = written.reports
    spread: Spread = {}
    varied = [reports[row] for row in written.varied]
    figures: Figures = variety(varied) | {"varied_reports": float(len(varied))}
    figures |= {f"distinct_{n}": distinct_n(varied, n) for n in range(1, _LONGEST_DISTINCT + 1)}
    if sides.shards.has_reports("train"):
        copied = verbatim_share(reports, train_reports(sides.shards), sides.shards.vocabulary.tokens)
        figures |= {"copied_reports": copied.reports, "copied_sentences": copied.sentences}
    vectors = [vector_Y.tobytes() for vector_Y in written.labels_NY]
    beside = same_label_references(vectors, written.people, references, config.evaluate.references)
    if not beside:
        return figures, spread
    scored = list(beside)
    scores = text_scores([reports[row] for row in scored], list(beside.values()))
    graph_N = None
    if readers.radgraph is not None:
        texts = ([detokenize(reports[row]) for row in scored], [detokenize(first) for first, *_ in beside.values()])
        graph_N = readers.radgraph.f1(*texts)

    def near(rows_R: NDArray[np.int64]) -> Figures:
        found = scores.figures(rows_R)
        return found if graph_N is None else found | {"radgraph_f1": float(graph_N[rows_R].mean())}

    found, between = with_intervals(near, [written.subjects[row] for row in scored], config.evaluate.resamples)
    figures |= _prefixed("same_labels", found) | {"same_labels_scored": len(scored) / len(reports)}
    return figures, spread | _prefixed("same_labels", between)


def _prefixed(prefix: str, figures: Mapping[str, _T]) -> dict[str, _T]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}
