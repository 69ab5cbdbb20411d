"""The part of an audit that reads reports: repetitions of one patient's reports, names and dates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emixer.audit.control import least_control
from emixer.audit.images import share_of
from emixer.audit.reports import ReportControl, find_copied_reports, report_figures
from emixer.audit.spans import Shared, SpanIndex
from emixer.audit.traces import IDENTIFYING, traces
from emixer.config import Config
from emixer.stages.audit.sides import GeneratedSide, RealSide

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class AuditedReports:
    """Audit of reports. figures, traces: None without a control. reasons: rows flagged by each criterion."""

    figures: dict[str, Any] | None
    traces: dict[str, Any] | None
    reasons: dict[str, NDArray[np.bool_]]
    copies: NDArray[np.bool_]
    remarks: list[str]

    @classmethod
    def read(
        cls, config: Config, made: GeneratedSide, train: RealSide, held_out: RealSide, train_codes: Rows, level: float
    ) -> "AuditedReports":  # fmt: skip
        """Audit the reports. level: share of held-out reports that would be flagged. train_codes: subject of each
        training row."""
        generated = pa.chunked_array(list(made.texts()), pa.string())
        control, held_out_rows = read_report_control(config, train, held_out, train_codes, level)
        if isinstance(control, str):
            return cls(None, None, {}, np.zeros(len(generated), bool), [control])
        in_generated = traces(generated)
        in_held_out = traces(held_out.column("report").take(held_out_rows))
        of_generated = _together([control.index.look_up(part) for part in made.sentences()])
        copied = find_copied_reports(of_generated, control.held_out, level)
        told = {
            kind: {"generated": share_of(in_generated[kind]), "held_out": share_of(in_held_out[kind])}
            for kind in in_generated
        }
        reasons = {"report": copied.flagged} | {kind: in_generated[kind] for kind in IDENTIFYING}
        return cls(report_figures(of_generated, control.held_out, copied), told, reasons, copied.copies, [])


def read_report_control(
    config: Config, train: RealSide, held_out: RealSide, train_codes: Rows, level: float
) -> tuple[ReportControl | str, Rows]:
    """The control, or why reports cannot be audited; and the held-out rows of the control."""
    held_out_rows = _one_a_study(held_out)
    needed = least_control(level)
    if not train.shards.num_reports("train"):
        return "Reports were not audited: the training images have no reports.", held_out_rows
    if len(held_out_rows) < needed:
        return (
            f"Reports were not audited: {len(held_out_rows):,} held-out studies have a report, and {needed:,} are "
            "needed as the control."
        ), held_out_rows
    index = SpanIndex.of(
        ((part, train_codes[first : first + len(part)]) for first, part in train.sentences()),
        config.audit.span_words,
    )
    told = _together([index.look_up(part) for _, part in held_out.sentences()]).take(held_out_rows)
    return ReportControl(index, told, level), held_out_rows


def _one_a_study(side: RealSide) -> Rows:
    """First row of each study with a report, which the images of a study share."""
    told = np.flatnonzero(side.column("sentences").is_valid().to_numpy())
    _, first = np.unique(side.studies()[told], return_index=True)
    return told[np.sort(first)]


def _together(parts: list[Shared]) -> Shared:
    names = ("shared_N", "identifying_N", "longest_N", "owner_N")
    return Shared(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
