"""Weighted kappa, against scikit-learn and by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from emixer.reader_study.kappa import weighted_kappa

SCORES = range(1, 11)  # otherwise scikit-learn counts ranks of the scores that occur, not distances


@pytest.mark.parametrize("seed", range(5))
def test_kappa_matches_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one = generator.integers(1, 11, 40)
    other = np.clip(one + generator.integers(-3, 4, 40), 1, 10)
    expected = cohen_kappa_score(one, other, weights="quadratic", labels=SCORES)
    assert weighted_kappa(one.astype(float), other.astype(float), np.ones(40)) == pytest.approx(expected, abs=1e-12)
    guesses = one > 5, other > 5
    plain = cohen_kappa_score(*guesses)
    assert weighted_kappa(guesses[0].astype(float), guesses[1].astype(float), np.ones(40)) == pytest.approx(plain)


def test_item_of_weight_two_counts_twice() -> None:
    one, other = np.array([1.0, 5, 9, 9]), np.array([2.0, 5, 8, 3])
    twice = np.repeat(one, [1, 2, 0, 3]), np.repeat(other, [1, 2, 0, 3])
    expected = cohen_kappa_score(*(scores.astype(int) for scores in twice), weights="quadratic", labels=SCORES)
    assert weighted_kappa(one, other, np.array([1.0, 2, 0, 3])) == pytest.approx(expected)


def test_fractional_scores_are_used_as_they_are() -> None:
    # thirds, as of means of three scores: the same as whole numbers three times as large
    one, other = np.array([4, 13, 22, 30]), np.array([5, 13, 19, 28])
    expected = cohen_kappa_score(one, other, weights="quadratic", labels=range(31))
    assert weighted_kappa(one / 3, other / 3, np.ones(4)) == pytest.approx(expected)


def test_kappa_is_undefined_for_one_item_or_constant_scores() -> None:
    assert math.isnan(weighted_kappa(np.array([9.0, 2]), np.array([8.0, 3]), np.array([3.0, 0])))
    assert math.isnan(weighted_kappa(np.full(3, 7.0), np.full(3, 7.0), np.ones(3)))
    assert math.isnan(weighted_kappa(np.zeros(0), np.zeros(0), np.zeros(0)))
