"""What the reports of a dataset repeat of training reports, beside what held-out reports do.

Shapes: N generated reports, M held-out ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emixer.audit.control import ranks_above
from emixer.audit.images import share_of
from emixer.audit.spans import Shared, SpanIndex

_COPY_FACTOR = 2


@dataclass(frozen=True)
class ReportFindings:
    """Which generated reports point to a single patient more often than normal."""

    flagged: NDArray[np.bool_]
    copies: NDArray[np.bool_]
    """Those of them that do so more than any held-out report, and twice as often as where flagging begins."""
    threshold: int
    """Identifying sequences at which reports begin to be flagged."""


@dataclass(frozen=True)
class ReportControl:
    """The training reports' sequences, and what held-out reports, one a study, share with them."""

    index: SpanIndex
    held_out: Shared
    level: float
    """Share of the held-out reports that would be flagged."""

    @property
    def threshold(self) -> int:
        """Identifying sequences at which reports begin to be flagged."""
        return find_copied_reports(self.held_out, self.held_out, self.level).threshold

    def judge(self, sentences: pa.Array) -> ReportFindings:
        """Of generated reports, as SENTENCES."""
        return find_copied_reports(self.index.look_up(sentences), self.held_out, self.level)


def find_copied_reports(generated: Shared, held_out: Shared, level: float) -> ReportFindings:
    """level: share of the held-out reports that would be flagged."""
    flagged = ranks_above(generated.identifying_N, held_out.identifying_N) <= level
    num_flagged = int(level * (len(held_out.identifying_N) + 1) + 1e-9)
    threshold = int(np.sort(held_out.identifying_N)[::-1][num_flagged - 1]) + 1
    beyond = generated.identifying_N > max(held_out.identifying_N.max(), _COPY_FACTOR * threshold - 1)
    return ReportFindings(flagged, flagged & beyond, threshold)


def report_figures(generated: Shared, held_out: Shared, findings: ReportFindings) -> dict[str, Any]:
    """Both sides of every figure. Holds no words of any report."""
    return {
        "threshold": findings.threshold,
        "flagged": share_of(findings.flagged),
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
