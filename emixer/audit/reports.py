"""How much the reports of a dataset repeat training reports, compared with held-out reports.

Shapes: N generated reports, M held-out ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emixer.audit.control import num_flagged, ranks_above
from emixer.audit.images import share_of
from emixer.audit.spans import SequenceIndex, Shared

COPIED_REPORT = "report"
"""Why such a report is withheld, as `withhold` in audit.json names it."""
_COPY_FACTOR = 2


@dataclass(frozen=True)
class FlaggedReports:
    """Generated reports that point to a single patient more often than normal."""

    flagged: NDArray[np.bool_]
    copies: NDArray[np.bool_]
    """Flagged reports that do so more often than any held-out report, and at least twice the threshold."""
    threshold: int
    """Number of identifying sequences at which flagging begins."""


@dataclass(frozen=True)
class ReportControl:
    """Sequences of the training reports, and what held-out reports, one per study, share with them."""

    index: SequenceIndex
    held_out: Shared
    level: float
    """Share of the held-out reports that would be flagged."""

    @property
    def threshold(self) -> int:
        """Number of identifying sequences at which flagging begins."""
        return find_copied_reports(self.held_out, self.held_out, self.level).threshold

    def judge(self, sentences: pa.Array) -> FlaggedReports:
        """Findings on generated reports, given as SENTENCES."""
        return find_copied_reports(self.index.look_up(sentences), self.held_out, self.level)


def find_copied_reports(generated: Shared, held_out: Shared, level: float) -> FlaggedReports:
    """Flag reports. level: share of the held-out reports that would be flagged."""
    flagged = ranks_above(generated.identifying_N, held_out.identifying_N) <= level
    last = num_flagged(level, len(held_out.identifying_N)) - 1
    threshold = int(np.sort(held_out.identifying_N)[::-1][last]) + 1
    beyond = generated.identifying_N > max(held_out.identifying_N.max(), _COPY_FACTOR * threshold - 1)
    return FlaggedReports(flagged, flagged & beyond, threshold)


def report_figures(generated: Shared, held_out: Shared, findings: FlaggedReports) -> dict[str, Any]:
    """Figures of both sides; control: share of the held-out reports that the same threshold flags. Contains no words
    of any report."""
    return {
        "threshold": findings.threshold,
        "flagged": share_of(findings.flagged),
        "control": share_of(held_out.identifying_N >= findings.threshold),
        "copies": int(findings.copies.sum()),
        "generated": _side(generated),
        "held_out": _side(held_out),
    }


def _side(shared: Shared) -> dict[str, float]:
    return {
        "reports": len(shared.shared_N),
        "shared_sequences": float(shared.shared_N.mean()),
        "identifying_sequences_percent_99": float(np.quantile(shared.identifying_N, 0.99)),
        "identifying_sequences_most": int(shared.identifying_N.max()),
        "longest_span_words_percent_99": float(np.quantile(shared.longest_N, 0.99)),
        "longest_span_words": int(shared.longest_N.max()),
    }
