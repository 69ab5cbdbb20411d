"""Generated reports against real reports of the same labels, for pairs that no real image stands behind.

A generated pair has labels and no radiologist. What radiologists wrote of images with just these labels is what its
report should resemble; the same figure of real reports, each against those of other studies, says how much of a
resemblance there can be.

Source: ours; BLEU, ROUGE-L and CIDEr as in `text_scores`.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from emixer.evaluation.pair_metrics import Report


def same_label_references(
    labels: Sequence[Hashable], own: Sequence[Hashable | None], written: Mapping[Any, Mapping[Any, Report]], most: int
) -> dict[int, list[Report]]:
    """References of each report, by its row; rows without one are left out.

    labels: label vector of each report. own: its study, whose report is no reference for it; None where there is none.
    written: real reports by study, by label vector. most: references a report has at most, the first ones.
    """
    found = {}
    for row, (vector, study) in enumerate(zip(labels, own, strict=True)):
        others = [text for whose, text in written.get(vector, {}).items() if study is None or whose != study][:most]
        if others:
            found[row] = others
    return found
