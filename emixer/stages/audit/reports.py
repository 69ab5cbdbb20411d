"""The part of an audit that reads reports: repetitions of one patient's reports, names and dates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.audit.control import min_control
from emixer.audit.images import share_of
from emixer.audit.reports import COPIED_REPORT, ReportControl, find_copied_reports, report_figures
from emixer.audit.spans import SENTENCES, SequenceIndex, Shared
from emixer.audit.traces import IDENTIFYING, traces
from emixer.config import Config
from emixer.data.patients import STUDY
from emixer.stages.audit.sides import GeneratedSide, RealSide

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class AuditedReports:
    """Audit of reports. figures: None without a control. reasons: rows flagged by each criterion."""

    figures: dict[str, Any] | None
    traces: dict[str, Any]
    """Share of the generated reports with each kind; of the held-out ones too, if there are any."""
    reasons: dict[str, NDArray[np.bool_]]
    copies: NDArray[np.bool_]
    remarks: list[str]

    @classmethod
    def read(
        cls, config: Config, made: GeneratedSide, train: RealSide, held_out: RealSide, train_codes: Rows, level: float
    ) -> "AuditedReports":  # fmt: skip
        """Audit the reports. level: share of held-out reports that would be flagged. train_codes: subject of each
        training row."""
        in_generated = traces(pa.chunked_array(list(made.texts()), pa.string()))
        reasons = {kind: in_generated[kind] for kind in IDENTIFYING}
        told = _shares(in_generated, held_out)
        missing = why_no_control(train, held_out, level)
        if missing is not None:
            return cls(None, told, reasons, np.zeros(len(made), bool), [missing])
        control = read_report_control(config, train, held_out, train_codes, level)
        of_generated = _together([control.index.look_up(part) for part in made.sentences()])
        copied = find_copied_reports(of_generated, control.held_out, level)
        figures = report_figures(of_generated, control.held_out, copied)
        return cls(figures, told, {COPIED_REPORT: copied.flagged} | reasons, copied.copies, [])


def why_no_control(train: RealSide, held_out: RealSide, level: float) -> str | None:
    """A remark for people if copies of training reports cannot be told from chance; None if they can."""
    begins = "Reports were searched for names, dates and long numbers, but not for copies of training reports: "
    if not train.shards.has_reports("train"):
        return f"{begins}the training images have none."
    num, needed = len(_one_a_study(held_out)), min_control(level)
    if num < needed:
        return f"{begins}{num:,} held-out studies have a report, and {needed:,} are needed as the control."
    return None


def read_report_control(
    config: Config, train: RealSide, held_out: RealSide, train_codes: Rows, level: float
) -> ReportControl:
    """The control, for sides of which `why_no_control` is None."""
    index = SequenceIndex.of(
        ((part, train_codes[rows]) for rows, part in _each_once(train)),
        config.audit.span_words,
        train.shards.vocabulary.tokens,
    )
    told = _together([index.look_up(part) for _, part in held_out.sentences()]).take(_one_a_study(held_out))
    return ReportControl(index, told, level)


def _shares(in_generated: Mapping[str, NDArray[np.bool_]], held_out: RealSide) -> dict[str, Any]:
    """Shares by kind and side; None for held-out reports where there are none."""
    in_held_out = traces(held_out.column("report").take(_one_a_study(held_out)))
    return {
        kind: {"generated": share_of(has_it), "held_out": share_of(beside) if len(beside) else None}
        for kind, has_it, beside in ((kind, in_generated[kind], in_held_out[kind]) for kind in in_generated)
    }


def _one_a_study(side: RealSide) -> Rows:
    """First row of each study with a report, which the images of a study share."""
    told = np.flatnonzero(side.column("sentences").is_valid().to_numpy())
    _, first = np.unique(side.studies()[told], return_index=True)
    return told[np.sort(first)]


def _each_once(side: RealSide) -> Iterator[tuple[Rows, pa.Array]]:
    """Reports file by file, with their rows. The report that images of a study share comes once; those of a study
    whose reports differ, as a table of one's own may have them, all do."""
    first, key = 0, [*STUDY, "report"]
    for file in side.files:
        table = pq.read_table(file.path, columns=[*key, "sentences"])
        numbered = table.select(key).append_column("row", pa.array(np.arange(len(table))))
        rows = np.sort(numbered.group_by(key).aggregate([("row", "min")])["row_min"].to_numpy())
        yield first + rows, table["sentences"].take(rows).combine_chunks().cast(SENTENCES)
        first += file.num_rows


def _together(parts: list[Shared]) -> Shared:
    names = ("shared_N", "identifying_N", "longest_N")
    return Shared(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
