"""The bootstrap: figures of test sets drawn again, subject by subject, since the films of a subject are alike.

The same subjects and seed give the same resamples, so that figures of two models on one test set can be paired.

Shapes: N rows, R resamples.
Source: Efron 1979; percentile intervals.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
Figures = dict[str, float]
Resampled = dict[str, NDArray[np.float64]]


def resampled_rows(subjects_N: Sequence[str], num: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Row indices of each of `num` resamples: as many subjects as there are, drawn with replacement, with all rows."""
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
    """Each figure in each resample (R,); NaN where a resample leaves it undefined. measure: figures of some rows."""
    drawn = [measure(rows) for rows in resampled_rows(subjects_N, num, seed)]
    names = dict.fromkeys(name for figures in drawn for name in figures)
    return {name: np.array([figures.get(name, np.nan) for figures in drawn]) for name in names}


def intervals(
    measure: Callable[[NDArray[np.int64]], Figures], subjects_N: Sequence[str], num: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % interval of each figure that resamples define. None for fewer than two subjects: those are always drawn."""
    if len(set(subjects_N)) < 2:
        return {}
    found = {name: interval(values_R) for name, values_R in resampled_figures(measure, subjects_N, num, seed).items()}
    return {name: both for name, both in found.items() if not np.isnan(both[0])}


def interval(resampled_R: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile interval of one figure; NaN where no resample defines it."""
    if np.isnan(resampled_R).all():
        return np.nan, np.nan
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(resampled_R, [tail, 100 - tail])
    return float(low), float(high)


def mean_over(resampled: Sequence[Mapping[str, NDArray[np.float64]]], name: str) -> NDArray[np.float64]:
    """One figure's mean over several models in each resample (R,): what an interval of their mean is taken from."""
    mean_R: NDArray[np.float64] = np.mean([each[name] for each in resampled], axis=0)
    return mean_R
