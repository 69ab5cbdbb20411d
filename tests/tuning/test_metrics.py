"""Objectives of a search: what can be measured at all, and the value of a line of metrics.jsonl."""

import math
from dataclasses import replace

import numpy as np
import pytest

from emixer.errors import ConfigError
from emixer.tuning.metrics import ValidationRows, measured, require_measurable

# Ten images: five have A, four have B
ROWS = ValidationRows(
    np.array([[1, 1]] * 4 + [[1, 0]] + [[0, 0]] * 5, np.uint8), 3, True, ("A", "B"), ("A", "B"), ("A", "B"), enough=5
)


def test_measurable_metrics_are_accepted() -> None:
    require_measurable(["fid", "word_cross_entropy", "label_auc", "report_f1", "pair_agreement"], ROWS)


@pytest.mark.parametrize("name", ["label_auc", "report_f1", "pair_agreement"])
def test_labels_on_too_few_images_are_refused_but_fid_is_not(name: str) -> None:
    few = replace(ROWS, labels_NY=ROWS.labels_NY[:9])
    with pytest.raises(ConfigError, match=rf"names {name}, but among the 9 labelled validation images no label"):
        require_measurable([name], few)  # type: ignore[list-item]
    require_measurable(["fid"], few)


def test_label_counts_only_where_judge_or_labeler_knows_it() -> None:
    judge_without_a, reader_without_a = replace(ROWS, judged=("B",)), replace(ROWS, readable=("B",))
    require_measurable(["report_f1"], judge_without_a)
    require_measurable(["label_auc"], reader_without_a)
    with pytest.raises(ConfigError, match="no label known to the image judge"):
        require_measurable(["label_auc"], judge_without_a)
    with pytest.raises(ConfigError, match="no label known to the report labeler"):
        require_measurable(["report_f1"], reader_without_a)
    for rows in (judge_without_a, reader_without_a):
        with pytest.raises(ConfigError, match="names pair_agreement"):
            require_measurable(["pair_agreement"], rows)


def test_word_cross_entropy_needs_reports() -> None:
    with pytest.raises(ConfigError, match="word_cross_entropy, which needs reports"):
        require_measurable(["word_cross_entropy"], replace(ROWS, num_reports=0))


@pytest.mark.parametrize("name", ["report_f1", "pair_agreement"])
def test_metrics_of_generated_reports_need_training_reports_that_can_be_read(name: str) -> None:
    silent = replace(ROWS, teaches_reports=False)
    with pytest.raises(ConfigError, match=rf"names {name}, .*no training image has a report in English"):
        require_measurable([name], silent)  # type: ignore[list-item]
    require_measurable(["fid", "label_auc"], silent)


def test_values_a_model_leaves_undefined_are_chance_or_not_finite() -> None:
    line = {"images": 5, "validation/label_auc_real": 0.9, "validation/words_per_report": 0.0}
    fid, area, agreement = measured(["fid", "label_auc", "pair_agreement"], line)
    assert math.isnan(fid), "not finite, so it was left out"
    assert math.isnan(area), "images that the judge cannot score"
    assert agreement == 0.5, "reports that state nothing"
    whole = {"validation/fid_random": 3.0, "validation/label_auc_generated": 0.7, "validation/label_auc_generated/A": 0}
    assert measured(["fid", "label_auc"], line | whole) == [3.0, 0.7]


def test_metric_undefined_for_real_images_is_an_error() -> None:
    with pytest.raises(ConfigError, match="names label_auc, which the validation pass does not report here"):
        measured(["label_auc"], {"images": 5, "validation/words_per_report": 3.0})
