"""The report reader against the phantom, whose reports come with ground truth."""

import numpy as np
import pytest

from emixer.data.labels import CHEXPERT
from emixer.data.phantom.study import Settings, make_study
from emixer.data.sections import split_sections
from emixer.data.text import clean_text, tokenize
from emixer.evaluation.report_mentions import Mention, mentions, score_mentions

NUM_STUDIES = 400
_READ = ("findings", "impression")


@pytest.fixture(scope="module")
def read_and_stated() -> tuple[np.ndarray, np.ndarray]:
    """Labels found by the reader and labels stated by the phantom, (N, 14), for reports with both headers."""
    reports = [make_study(Settings(seed=3), index).report for index in range(NUM_STUDIES)]
    parts = [[clean_text(s.text) for s in split_sections(report.text) if s.name in _READ] for report in reports]
    whole = [index for index, texts in enumerate(parts) if len(texts) == len(_READ)]
    found = mentions(([s for text in parts[index] for s in tokenize(text)] for index in whole), CHEXPERT)
    stated = [[Mention.UNMENTIONED if v is None else v for v in reports[index].row()] for index in whole]
    return found, np.array(stated)


def test_every_label_the_phantom_states_is_read(read_and_stated: tuple[np.ndarray, np.ndarray]) -> None:
    found, stated = read_and_stated
    assert len(found) > NUM_STUDIES / 4
    scores = score_mentions(found, stated)
    for label, precision, recall in zip(CHEXPERT, scores.precision_Y, scores.recall_Y, strict=True):
        assert np.isnan(recall) or (precision > 0.95 and recall > 0.95), f"{label}: {precision:.2f}, {recall:.2f}"


def test_hedged_and_negated_statements_of_the_phantom_are_recognised(
    read_and_stated: tuple[np.ndarray, np.ndarray],
) -> None:
    found, stated = read_and_stated
    spoken = [y for y, label in enumerate(CHEXPERT) if label != "No Finding"]
    found, stated = found[:, spoken], stated[:, spoken]
    for mention in (Mention.UNCERTAIN, Mention.NEGATED):
        assert (stated == mention).sum() > 20
        assert (found[stated == mention] == mention).mean() > 0.98, mention.name
