"""Generated reports against real reports of the same labels, for pairs that no real film stands behind.

A generated pair has labels and no radiologist. What radiologists wrote of films with just these labels is what its
report should resemble; the same figure of real reports, each against those of other studies, says how much of a
resemblance there can be.

Source: ours; BLEU, ROUGE-L and CIDEr as in `text_scores`.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from emixer.evaluation.text_scores import Report, TextScores, text_scores


def same_label_scores(
    reports: Sequence[Report], labels: Sequence[Hashable], own: Sequence[Hashable | None],
    references: Mapping[Any, Mapping[Any, Report]], most: int,
) -> tuple[list[int], TextScores | None]:  # fmt: skip
    """Rows of the reports that have a reference, and their scores; None where none has.

    labels: label vector of each report. own: its study, whose report is no reference for it; None where there is none.
    references: real reports by study, by label vector. most: references a report has at most, the first ones.
    """
    rows, beside = [], []
    for row, (vector, study) in enumerate(zip(labels, own, strict=True)):
        others = [text for whose, text in references.get(vector, {}).items() if study is None or whose != study][:most]
        if others:
            rows.append(row)
            beside.append(others)
    return rows, text_scores([reports[row] for row in rows], beside) if rows else None
