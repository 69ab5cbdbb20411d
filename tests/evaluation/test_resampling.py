"""The bootstrap over subjects, against numpy and by hand."""

import math
import warnings

import numpy as np
import pytest

from emixer.evaluation.resampling import interval, mean_over, paired_interval, resampled_figures, resampled_rows

SUBJECTS = ["b", "a", "b", "c", "c", "c"]


def test_resample_has_as_many_subjects_each_with_all_its_rows() -> None:
    rows_of = {"a": [1], "b": [0, 2], "c": [3, 4, 5]}
    drawn = list(resampled_rows(SUBJECTS, 200, seed=0))
    assert len(drawn) == 200
    for rows in drawn:
        times = {name: [rows.tolist().count(row) for row in of] for name, of in rows_of.items()}
        assert all(len(set(counts)) == 1 for counts in times.values()), "a subject comes with all its rows or none"
        assert sum(counts[0] for counts in times.values()) == 3
    sizes = [len(rows) for rows in drawn]
    assert min(sizes) == 3
    assert max(sizes) == 9


def test_subjects_are_drawn_equally_often() -> None:
    drawn = np.concatenate(list(resampled_rows(SUBJECTS, 6000, seed=1)))
    for row in range(6):
        assert (drawn == row).sum() == pytest.approx(6000, rel=0.06)


def test_resamples_depend_only_on_subjects_and_seed() -> None:
    first, again = (np.concatenate(list(resampled_rows(SUBJECTS, 50, seed=3))) for _ in range(2))
    other = np.concatenate(list(resampled_rows(SUBJECTS, 50, seed=4)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    mean = resampled_figures(lambda rows: {"mean": float(rows.mean())}, SUBJECTS, 50, seed=3)
    shifted = resampled_figures(lambda rows: {"mean": float(rows.mean()) + 7}, SUBJECTS, 50, seed=3)
    np.testing.assert_allclose(shifted["mean"] - mean["mean"], 7)


def test_interval_of_a_mean_matches_numpy_and_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    subjects = [str(i) for i in range(400)]
    resampled = resampled_figures(lambda rows: {"mean": float(values[rows].mean())}, subjects, 2000, seed=5)
    low, high = interval(resampled["mean"])
    assert (low, high) == pytest.approx(tuple(np.percentile(resampled["mean"], [2.5, 97.5])))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.1)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.01)


def test_images_of_one_subject_count_as_one_observation() -> None:
    values = np.random.default_rng(0).normal(size=100).repeat(4)
    alike = [str(i) for i in range(100) for _ in range(4)]
    unlike = [str(i) for i in range(400)]
    widths = []
    for subjects in (alike, unlike):
        low, high = interval(resampled_figures(lambda r: {"m": float(values[r].mean())}, subjects, 1000, seed=0)["m"])
        widths.append(high - low)
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.15)


def test_interval_by_hand_ignores_undefined_resamples() -> None:
    assert interval(np.arange(41.0)) == (pytest.approx(1.0), pytest.approx(39.0))
    assert interval(np.array([*np.arange(41.0), np.nan, np.nan])) == (pytest.approx(1.0), pytest.approx(39.0))
    # undefined in 37 % of the resamples, as what a single subject decides is
    assert all(math.isnan(bound) for bound in interval(np.array([*np.arange(41.0), *[np.nan] * 24])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(math.isnan(bound) for bound in interval(np.array([np.nan, np.nan])))


def test_figure_missing_from_a_resample_is_nan_there() -> None:
    def measure(rows: np.ndarray) -> dict[str, float]:
        return {"always": 1.0} | ({"c": float((rows > 2).sum())} if (rows > 2).any() else {})

    resampled = resampled_figures(measure, SUBJECTS, 100, seed=0)
    assert (resampled["always"] == 1).all()
    assert 0 < np.isnan(resampled["c"]).sum() < 100
    assert set(resampled["c"][~np.isnan(resampled["c"])]) == {3, 6, 9}


def test_mean_over_models_is_taken_per_resample() -> None:
    models = [np.array([0.5, 0.7, np.nan]), np.array([0.7, 0.8, np.nan])]
    np.testing.assert_allclose(mean_over(models), [0.6, 0.75, np.nan])


def test_paired_interval_reduces_to_students_t_or_to_the_spread_over_subjects() -> None:
    difference, still = np.array([0.01, 0.02, 0.03]), np.full(50, 0.02)
    # 0.02 ± t(0.975, 2) sd / sqrt(3)
    assert paired_interval(difference, still, 200) == pytest.approx(
        (0.02 - 4.302653 * 0.01 / 3**0.5, 0.0448415), abs=1e-6
    )
    spread = np.random.default_rng(0).normal(0.02, 0.005, 5000)
    low, high = paired_interval(np.full(3, 0.02), spread, 500)
    assert (low, high) == pytest.approx((0.02 - 1.96 * 0.005, 0.02 + 1.96 * 0.005), rel=0.05)
    assert paired_interval(difference[:2], still, 200) == (pytest.approx(math.nan, nan_ok=True),) * 2
    assert paired_interval(np.full(3, 0.5), np.full(9, 0.5), 200) == (0.5, 0.5), "the same each time"
    assert all(map(math.isnan, paired_interval(difference, np.array([0.1, np.nan]), 200))), (
        "one resample tells no spread"
    )


def test_paired_interval_does_not_narrow_with_more_resamples_of_the_same_few_subjects() -> None:
    few, many = np.array([-1.0, 0, 1]) * 0.01, np.array([-1.0, *[0] * 198, 1]) * 0.01 * (199 / 2) ** 0.5  # sd 0.01
    for resampled in (few, many):
        # t(0.975, 9) sd
        assert paired_interval(np.zeros(3), resampled, 10) == pytest.approx((-0.0226216, 0.0226216), abs=1e-6)
    assert all(map(math.isnan, paired_interval(np.zeros(3), few, 1))), "one subject tells no spread"
