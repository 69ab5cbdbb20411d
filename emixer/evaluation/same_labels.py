"""Generated reports against real reports of the same labels, for pairs without a real counterpart.

A generated pair has labels but no report by a radiologist. Its report should resemble real reports of images with
exactly these labels; the same figure for real reports, each against those of other patients, shows how much resemblance
is possible. Reports of one patient repeat each other, so those of its own patient are no references of a real report.
A generated report has no patient: it takes the place of one who has these labels, drawn at random, so that both have
equally many references. With more, its best score over them would be higher for that alone.

References are drawn anew for each report: were they the same few for all reports of a label vector, figures would
depend on which these are, by more than their intervals, and CIDEr would weigh the words of the commonest vector with
nearly 0.

Source: ours; BLEU, ROUGE-L and CIDEr as in `text_scores`.
"""

from collections.abc import Sequence

import numpy as np

from emixer.evaluation.pair_metrics import Report

References = dict[bytes, dict[str, tuple[str, Report]]]
"""Real reports and whose they are, by label vector and study."""


def same_label_references(
    labels: Sequence[bytes], people: Sequence[str | None], written: References, most: int
) -> dict[int, list[Report]]:
    """References of each report, by row; rows without references are omitted.

    labels: label vector of each report. people: whose it is, and whose reports are no references for it; None for
    a generated one. most: maximum number of references per report; if there are more, a fixed seed draws among them.
    """
    found = {}
    generator = np.random.default_rng(0)
    for row, (vector, person) in enumerate(zip(labels, people, strict=True)):
        real = list(written.get(vector, {}).values())
        if person is None and real:
            person = real[generator.integers(len(real))][0]
        others = [text for whose, text in real if whose != person]
        if others:
            drawn = generator.choice(len(others), min(most, len(others)), replace=False)
            found[row] = [others[n] for n in drawn]
    return found
