"""The bootstrap: figures of resampled test sets, drawn by subject, since the images of a subject are correlated.

The same subjects and seed give the same resamples, so that figures of two models on one test set can be paired.

Shapes: N rows, R resamples, S seeds.
Source: Efron 1979; percentile intervals. Welch 1947 and Satterthwaite 1946 for differences between trained models.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
MIN_SEEDS = 3
"""Minimum number of models of a kind to estimate how much retraining changes a figure."""
MAX_UNDEFINED = 0.2
"""Share of the resamples in which a figure with an interval may be undefined; of one that a single subject decides it
is 0.37."""
Figures = dict[str, float]
Rows = NDArray[np.int64] | slice
Measure = Callable[[Rows], Figures]
ALL = slice(None)
Resampled = dict[str, NDArray[np.float64]]


def resampled_rows(subjects_N: Sequence[str], num: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Row indices of each of `num` resamples: all rows of subjects drawn with replacement, as many as there are."""
    _, subject_N = np.unique(np.asarray(subjects_N), return_inverse=True)
    order = np.argsort(subject_N, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(subject_N))[:-1])
    generator = np.random.default_rng(seed)
    for _ in range(num):
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        yield np.concatenate([rows_of[subject] for subject in drawn])


def resampled_figures(
    measure: Callable[[NDArray[np.int64]], Figures], subjects_N: Sequence[str], num: int, seed: int
) -> Resampled:
    """Each figure in each resample (R,); NaN where undefined. measure: computes the figures of given rows."""
    drawn = [measure(rows) for rows in resampled_rows(subjects_N, num, seed)]
    names = dict.fromkeys(name for figures in drawn for name in figures)
    return {name: np.array([figures.get(name, np.nan) for figures in drawn]) for name in names}


def intervals(
    measure: Callable[[NDArray[np.int64]], Figures], subjects_N: Sequence[str], num: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % interval of each figure defined in any resample. Empty for one subject: all its resamples are the same."""
    if len(set(subjects_N)) < 2:
        return {}
    found = {name: interval(values_R) for name, values_R in resampled_figures(measure, subjects_N, num, seed).items()}
    return {name: both for name, both in found.items() if not np.isnan(both[0])}


def interval(resampled_R: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile interval of one figure; NaN if it is undefined in more than MAX_UNDEFINED of the resamples: the
    others, in which the few subjects that decide it happen to be, would understate how much it varies."""
    if np.isnan(resampled_R).mean() > MAX_UNDEFINED:
        return np.nan, np.nan
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(resampled_R, [tail, 100 - tail])
    return float(low), float(high)


def mean_over(resampled: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean of one figure over several models in each resample (R,), for an interval of their mean."""
    mean_R: NDArray[np.float64] = np.mean(resampled, axis=0)
    return mean_R


def paired_interval(
    difference_S: NDArray[np.float64], resampled_R: NDArray[np.float64], num_subjects: int
) -> tuple[float, float]:
    """95 % interval of the mean difference between two kinds of models, for retrained models and other subjects.

    difference: between two models of the same seed; of readers, one value each. resampled: mean difference in each
    resample of the subjects, of whom there are num_subjects. NaN for fewer than MIN_SEEDS models of a kind or two
    subjects, and where `interval` would be. A Student interval rather than resampled seeds: three seeds that all differ
    in one direction, as happens by chance one time in four, would give an interval without 0.
    """
    num, is_defined_R = len(difference_S), np.isfinite(resampled_R)
    if num < MIN_SEEDS or num_subjects < 2 or is_defined_R.sum() < 2 or 1 - is_defined_R.mean() > MAX_UNDEFINED:
        return np.nan, np.nan
    resampled_R = resampled_R[is_defined_R]
    by_training, by_subjects = float(difference_S.var(ddof=1)) / num, float(resampled_R.var(ddof=1))
    total, mean = by_training + by_subjects, float(difference_S.mean())
    if not total:
        return mean, mean
    freedom = total**2 / (by_training**2 / (num - 1) + by_subjects**2 / (num_subjects - 1))
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * total**0.5
    return mean - half, mean + half
