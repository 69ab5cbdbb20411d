"""Generated reports against real reports of the same labels, for pairs without a real counterpart.

A generated pair has labels but no report by a radiologist. Its report should resemble real reports of images with
exactly these labels; the same figure for real reports, each against those of other studies, shows how much resemblance
is possible.

Source: ours; BLEU, ROUGE-L and CIDEr as in `text_scores`.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from emixer.evaluation.pair_metrics import Report


def same_label_references(
    labels: Sequence[Hashable], own: Sequence[Hashable | None], written: Mapping[Any, Mapping[Any, Report]], most: int
) -> dict[int, list[Report]]:
    """References of each report, by row; rows without references are omitted.

    labels: label vector of each report. own: its study, whose report is no reference for it; None if it has none.
    written: real reports by label vector and study. most: maximum number of references per report, the first ones.
    """
    found = {}
    for row, (vector, study) in enumerate(zip(labels, own, strict=True)):
        others = [text for whose, text in written.get(vector, {}).items() if study is None or whose != study][:most]
        if others:
            found[row] = others
    return found
