"""AUCs with intervals, against scikit-learn and the known spread of samples."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from emixer.evaluation.auc_table import auc_table, measurable


def images(num: int, seed: int, separation: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(num, 3, generator=generator) < 0.3).float()
    return torch.randn(num, 3, generator=generator) + separation * labels, labels


def test_aucs_match_scikit_learn_and_ignore_unknown_labels() -> None:
    scores, labels = images(200, seed=0)
    labels[:50, 1] = torch.nan
    table = auc_table(scores, labels, [str(i) for i in range(200)], ("A", "B", "C"))
    for y, row in enumerate(table.rows):
        known = ~labels[:, y].isnan()
        assert row.auc == pytest.approx(roc_auc_score(labels[known, y], scores[known, y]))
        assert (row.present, row.absent) == (int((labels[:, y] == 1).sum()), int((labels[:, y] == 0).sum()))
    assert table.mean is not None
    assert table.mean.auc == pytest.approx(np.mean([row.auc for row in table.rows]))


def test_interval_is_as_wide_as_the_spread_over_fresh_samples() -> None:
    """Repeat the whole experiment 300 times; the middle 95 % of its AUCs are about as wide as one table's interval."""
    areas = []
    for seed in range(300):
        scores, labels = images(150, seed)
        areas.append(roc_auc_score(labels[:, 0], scores[:, 0]))
    low, high = np.percentile(areas, [2.5, 97.5])
    widths = []
    for seed in range(5):
        scores, labels = images(150, 1000 + seed)
        row = auc_table(scores, labels, [str(i) for i in range(150)], ("A", "B", "C"), seed).rows[0]
        assert row.low < row.auc < row.high
        widths.append(row.high - row.low)
    assert np.mean(widths) == pytest.approx(high - low, rel=0.2)


def test_the_interval_of_the_mean_is_that_of_each_where_labels_are_alike_and_narrower_where_they_are_not() -> None:
    scores, labels = images(100, seed=4)
    subjects = [str(i) for i in range(100)]
    for alike in (True, False):
        columns = [0, 0, 0] if alike else [0, 1, 2]
        table = auc_table(scores[:, columns], labels[:, columns], subjects, ("A", "B", "C"))
        assert table.mean is not None
        if alike:
            assert (table.mean.low, table.mean.high) == pytest.approx((table.rows[0].low, table.rows[0].high))
        else:
            widths = [row.high - row.low for row in table.rows]
            assert table.mean.high - table.mean.low == pytest.approx(np.mean(widths) / 3**0.5, rel=0.2)


def test_copies_of_a_subjects_image_do_not_narrow_the_interval() -> None:
    scores, labels = images(100, seed=3)
    once = auc_table(scores, labels, [str(i) for i in range(100)], ("A", "B", "C")).rows[0]
    four = auc_table(scores.repeat(4, 1), labels.repeat(4, 1), [str(i) for i in range(100)] * 4, ("A", "B", "C")).rows[
        0
    ]
    assert four.high - four.low == pytest.approx(once.high - once.low, rel=0.05)
    as_if_new = auc_table(scores.repeat(4, 1), labels.repeat(4, 1), [str(i) for i in range(400)], ("A", "B", "C"))
    assert as_if_new.rows[0].high - as_if_new.rows[0].low < 0.7 * (once.high - once.low)


def test_labels_with_too_few_images_are_named_and_not_measured() -> None:
    scores, labels = images(60, seed=1)
    labels[:, 2] = 0
    labels[:4, 2] = 1
    table = auc_table(scores, labels, [str(i) for i in range(60)], ("A", "B", "C"))
    assert [row.label for row in table.rows] == ["A", "B"]
    assert table.unmeasured == ("C",)
    assert "fewer than 5 images on one side: C" in str(table)
    nothing = auc_table(scores, torch.zeros(60, 3), [str(i) for i in range(60)], ("A", "B", "C"))
    assert nothing.mean is None
    assert "no label has enough images" in str(nothing)


def test_an_unknown_label_counts_for_neither_side() -> None:
    labels = torch.zeros(10, 4)
    labels[:5, 0] = 1
    labels[:4, 1] = 1
    labels[:6, 2] = 1
    labels[:5, 3] = 1
    labels[5, 3] = torch.nan
    assert measurable(labels).tolist() == [True, False, False, False]


def test_mean_of_a_resample_is_over_the_same_labels_as_the_table() -> None:
    # B is easy and decided by three of a hundred people: without the resamples that lack them, or counting A alone
    # there, the mean would be lower than both of its parts allow
    labels = torch.zeros(200, 2)
    labels[:100, 0] = 1
    labels[:6, 1] = 1
    scores = torch.stack([torch.linspace(1, 0, 200).roll(50), labels[:, 1] * 2 + torch.linspace(0, 1, 200)], 1)
    table = auc_table(scores, labels, [str(i // 2) for i in range(200)], ("A", "B"))
    a, b = table.rows
    assert b.auc == 1
    assert table.mean is not None
    assert table.mean.low == pytest.approx((a.low + 1) / 2, abs=0.01)
    assert table.mean.high == pytest.approx((a.high + 1) / 2, abs=0.01)


def test_label_that_one_subject_decides_has_no_interval_and_says_so_by_leaving_it_out() -> None:
    scores, labels = images(120, seed=0)
    labels[:, 2] = 0
    labels[:5, 2] = 1
    subjects = ["one"] * 5 + [str(i) for i in range(115)]  # without "one", in 37 % of the resamples, C is undefined
    table = auc_table(scores, labels, subjects, ("A", "B", "C"))
    assert [math.isnan(row.low) for row in table.rows] == [False, False, True]
    assert table.mean is not None
    assert math.isnan(table.mean.high)
    assert "nan" not in str(table)
    assert f"{table.rows[2].auc:.3f}  {'':<13}  {5:>9} {115:>8}" in str(table)
