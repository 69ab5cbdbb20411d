"""Figures of a reader study, with bootstrap intervals that resample pairs and, if there are enough readers, take from
the spread of their figures how much other readers would differ.

Readers are not resampled: three of them, drawn with replacement, differ too little from each other, and an interval of
percentiles holds the figure of other readers four times in five rather than 19 times in twenty.

Shapes: N ratings of pairs at their first showing, R resamples.
Source: EMIXER §4.5.3 (mean, sd, kappa); Efron 1979; Student 1908, as in `resampling.paired_interval`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emixer.evaluation.resampling import MIN_SEEDS, interval, paired_interval, resampled_rows
from emixer.reader_study.kappa import weighted_kappa
from emixer.reader_study.rating import HIGHEST, LOWEST
from emixer.reader_study.ratings import GUESS, MEASURES, WHOLE, Ratings, value_of

MIN_READERS = MIN_SEEDS
"""Minimum number of readers for intervals that also cover other readers."""
MIN_PAIRS = 5
"""Minimum number of pairs of a kind for an interval: resamples of fewer differ too little from each other."""
_REAL, _SYNTHETIC = "real", "synthetic"
Weights = NDArray[np.float64]
Measure = Callable[[Weights], float]
"""A figure of ratings weighted by their counts (N)."""


@dataclass(frozen=True)
class Figure:
    """One figure with its interval."""

    value: float
    low: float
    high: float
    """95 % interval; NaN if undefined in too many resamples, or for too few pairs."""
    sd: float
    """Standard deviation of the ratings; NaN unless the figure is a mean of scores."""
    count: int
    """Number of ratings."""


def summarize(ratings: Ratings, resamples: int, seed: int = 0) -> dict[str, Figure]:
    """All figures that the ratings define, by name.

    `MEASURE/real`, `/synthetic`, `/difference` (real minus synthetic), `/kappa between`, `/kappa within`, for each
    score and `guess`; `right/all`, `right/real`, `right/synthetic`; the same for one label: `label/LABEL/...`.
    """
    if not ratings.pairs:
        return {}
    measures = _measures(ratings)
    alone_N = np.ones(len(ratings.pairs))
    values = {name: measure(alone_N) for name, (measure, _) in measures.items()}
    draws = list(_draws(ratings, resamples, seed))
    found = {}
    for name, (measure, rows_N) in measures.items():
        if math.isfinite(values[name]):
            low, high = math.nan, math.nan
            if (fewest := _fewest(ratings, rows_N)) >= MIN_PAIRS:
                resampled_R = np.array([measure(by_pair_N) for by_pair_N in draws])
                is_of_others = covers_other_readers(ratings) and "/kappa " not in name
                low, high = (
                    _for_other_readers(ratings, name, measure, resampled_R, fewest) if is_of_others
                    else interval(resampled_R)
                )  # fmt: skip
            found[name] = Figure(values[name], low, high, _sd(ratings, name, rows_N), len(rows_N))
    return found


def covers_other_readers(ratings: Ratings) -> bool:
    """Whether intervals also cover other readers: there are enough of them who have scored enough pairs."""
    return len(_readers_in_earnest(ratings)) >= MIN_READERS


def _readers_in_earnest(ratings: Ratings) -> list[str]:
    """Readers who have scored MIN_PAIRS pairs of each kind: what others say of one or two tells nothing of a reader."""
    scored = Counter((pair.reader, pair.entry.kind) for pair in ratings.pairs)
    kinds = {kind for _, kind in scored}
    return [reader for reader in ratings.readers if all(scored[reader, kind] >= MIN_PAIRS for kind in kinds)]


def _for_other_readers(
    ratings: Ratings, name: str, measure: Measure, resampled_R: Weights, num_pairs: int
) -> tuple[float, float]:
    """Interval around a mean for other readers and other pairs, within what scores can be; for these readers where the
    mean is defined for fewer than MIN_READERS of those who have scored enough pairs."""
    reader_N = np.array([pair.reader for pair in ratings.pairs])
    of_readers = np.array([measure((reader_N == reader).astype(float)) for reader in _readers_in_earnest(ratings)])
    of_readers = of_readers[np.isfinite(of_readers)]
    if len(of_readers) < MIN_READERS:
        return interval(resampled_R)
    low, high = paired_interval(of_readers, resampled_R, num_pairs)
    # readers who have not finished count for less in the figure than in the mean over readers
    moved = measure(np.ones(len(reader_N))) - (low + high) / 2
    least, most = _range_of(name)
    return max(low + moved, least), min(high + moved, most)


def _range_of(name: str) -> tuple[float, float]:
    if "right/" in name:
        return 0, 1
    return (LOWEST - HIGHEST, HIGHEST - LOWEST) if name.endswith("/difference") else (LOWEST, HIGHEST)


def _draws(ratings: Ratings, num: int, seed: int) -> Iterator[Weights]:
    """Count of each rating (N,) in each resample of the pairs."""
    size, cluster_N = len(ratings.pairs), np.array(ratings.clusters())
    kind_N = np.array([pair.entry.kind for pair in ratings.pairs])
    # within each kind: how many pairs are real is fixed by the design, and does not vary from study to study
    rows_of = [np.flatnonzero(kind_N == kind) for kind in (_REAL, _SYNTHETIC) if (kind_N == kind).any()]
    drawn = [resampled_rows(cluster_N[rows_N].tolist(), num, seed + 2 * n) for n, rows_N in enumerate(rows_of)]
    for pair_rows in zip(*drawn, strict=True):
        picked = np.concatenate([rows_N[inside] for rows_N, inside in zip(rows_of, pair_rows, strict=True)])
        yield np.bincount(picked, minlength=size).astype(float)


def _measures(ratings: Ratings) -> dict[str, tuple[Measure, NDArray[np.int64]]]:
    """Each figure with the rows that it is computed from."""
    kind_N = np.array([pair.entry.kind for pair in ratings.pairs])
    stratum_N = np.array([pair.entry.stratum for pair in ratings.pairs])
    right_N = np.array([float(pair.rating.guess == pair.entry.kind) for pair in ratings.pairs])
    everywhere_N = np.ones(len(kind_N), bool)
    found: dict[str, tuple[Measure, NDArray[np.int64]]] = {}
    for measure in MEASURES:
        found |= _means(f"{measure}/", ratings.values(measure), kind_N, everywhere_N)
    found |= _shares("", right_N, kind_N, everywhere_N)
    for measure in (*MEASURES, GUESS):
        found[f"{measure}/kappa between"] = _between(ratings, measure)
        found[f"{measure}/kappa within"] = _within(ratings, measure)
    for stratum in dict.fromkeys(stratum_N.tolist()):
        inside_N = stratum_N == stratum
        found |= _means(f"label/{stratum}/", ratings.values(WHOLE), kind_N, inside_N)
        found |= _shares(f"label/{stratum}/", right_N, kind_N, inside_N)
    return found


def _means(
    prefix: str, value_N: Weights, kind_N: NDArray[np.str_], inside_N: NDArray[np.bool_]
) -> dict[str, tuple[Measure, NDArray[np.int64]]]:
    rows = {kind: np.flatnonzero(inside_N & (kind_N == kind)) for kind in (_REAL, _SYNTHETIC)}
    mean_of = {kind: _mean(value_N, rows_N) for kind, rows_N in rows.items()}

    def difference(weight_N: Weights) -> float:
        return mean_of[_REAL](weight_N) - mean_of[_SYNTHETIC](weight_N)

    found = {f"{prefix}{kind}": (mean_of[kind], rows_N) for kind, rows_N in rows.items()}
    return found | {f"{prefix}difference": (difference, np.concatenate(list(rows.values())))}


def _shares(
    prefix: str, right_N: Weights, kind_N: NDArray[np.str_], inside_N: NDArray[np.bool_]
) -> dict[str, tuple[Measure, NDArray[np.int64]]]:
    rows = {"all": np.flatnonzero(inside_N)}
    rows |= {kind: np.flatnonzero(inside_N & (kind_N == kind)) for kind in (_REAL, _SYNTHETIC)}
    return {f"{prefix}right/{which}": (_mean(right_N, rows_N), rows_N) for which, rows_N in rows.items()}


def _mean(value_N: Weights, rows_N: NDArray[np.int64]) -> Measure:
    values = value_N[rows_N]

    def mean(weight_N: Weights) -> float:
        weights = weight_N[rows_N]
        total = weights.sum()
        return float(weights @ values / total) if total else math.nan

    return mean


def _between(ratings: Ratings, measure: str) -> tuple[Measure, NDArray[np.int64]]:
    """Mean kappa over pairs of readers."""
    value_N = ratings.values(measure)
    row_of: dict[str, dict[str, int]] = {}
    for n, pair in enumerate(ratings.pairs):
        row_of.setdefault(pair.reader, {})[pair.item] = n
    common = []
    for one, other in itertools.combinations(row_of.values(), 2):
        items = [item for item in one if item in other]
        common.append((np.array([one[i] for i in items], int), np.array([other[i] for i in items], int)))

    def kappa(by_pair_N: Weights) -> float:
        return _mean_of(weighted_kappa(value_N[a], value_N[b], by_pair_N[a]) for a, b in common)

    return kappa, np.concatenate([a for a, _ in common]) if common else np.zeros(0, np.int64)


def _within(ratings: Ratings, measure: str) -> tuple[Measure, NDArray[np.int64]]:
    """Mean kappa over readers, on pairs that they have scored twice."""
    rows_of: dict[str, list[int]] = {}
    for n, pair in enumerate(ratings.pairs):
        if pair.again is not None:
            rows_of.setdefault(pair.reader, []).append(n)
    twice = []
    for rows in rows_of.values():
        both = [(ratings.pairs[n].rating, ratings.pairs[n].again) for n in rows]
        first, second = (
            [value_of(each, measure) for each in column if each is not None] for column in zip(*both, strict=True)
        )
        twice.append((np.array(rows), np.array(first), np.array(second)))

    def kappa(by_pair_N: Weights) -> float:
        return _mean_of(weighted_kappa(first, second, by_pair_N[rows]) for rows, first, second in twice)

    return kappa, np.concatenate([rows for rows, *_ in twice]) if twice else np.zeros(0, np.int64)


def _fewest(ratings: Ratings, rows_N: NDArray[np.int64]) -> int:
    """Number of pairs of the kind with fewer; real pairs of one person count once."""
    drawn: dict[str, set[int]] = {}
    for n in rows_N:
        entry = ratings.pairs[n].entry
        drawn.setdefault(entry.kind, set()).add(entry.subject)
    return min(map(len, drawn.values()))


def _mean_of(values: Iterator[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _sd(ratings: Ratings, name: str, rows_N: NDArray[np.int64]) -> float:
    prefix, _, kind = name.rpartition("/")
    if kind not in (_REAL, _SYNTHETIC) or prefix.endswith("right") or len(rows_N) < 2:
        return math.nan
    measure = WHOLE if prefix.startswith("label/") else prefix
    return float(ratings.values(measure)[rows_N].std(ddof=1))
