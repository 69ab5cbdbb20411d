"""Generated reports against real reports of the same labels, for pairs that no real film stands behind.

A generated pair has labels and no radiologist. What radiologists wrote of films with just these labels is what its
report should resemble; the same figure of real reports, each against those of other studies, says how much of a
resemblance there can be.

Source: ours; BLEU, ROUGE-L and CIDEr as in `text_scores`.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from emixer.evaluation.resampling import Figures
from emixer.evaluation.text_scores import Report, text_scores


def same_label_figures(
    reports: Sequence[Report], labels: Sequence[Hashable], own: Sequence[Hashable | None],
    references: Mapping[Any, Mapping[Any, Report]], most: int,
) -> Figures:  # fmt: skip
    """bleu_1 ... bleu_4, rouge_l, cider, and scored: the share of reports with a reference.

    labels: label vector of each report. own: its study, whose report is no reference for it; None where there is none.
    references: real reports by study, by label vector. most: references a report has at most, the first ones.
    Empty for no report with a reference.
    """
    scored, beside = [], []
    for report, vector, study in zip(reports, labels, own, strict=True):
        others = [text for whose, text in references.get(vector, {}).items() if study is None or whose != study][:most]
        if others:
            scored.append(report)
            beside.append(others)
    if not scored:
        return {}
    return text_scores(scored, beside).figures() | {"scored": len(scored) / len(reports)}
