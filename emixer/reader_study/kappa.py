"""Cohen's kappa with quadratic weights: agreement of two sets of scores beyond chance.

A disagreement counts by its square, so 7 against 8 counts little and 1 against 10 much. 1 is full agreement, 0 that of
chance. For binary guesses it equals the unweighted kappa.

Shapes: N items scored by both.
Source: Cohen 1968.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def weighted_kappa(one_N: Scores, other_N: Scores, weight_N: Scores) -> float:
    """Weighted kappa. weight: how often each item counts. NaN for fewer than two items, or if chance agreement is 1."""
    if np.count_nonzero(weight_N) < 2:
        return float("nan")
    share_N = weight_N / weight_N.sum()
    observed = share_N @ (one_N - other_N) ** 2
    # mean over all combinations of one's scores with the other's
    by_chance = share_N @ one_N**2 + share_N @ other_N**2 - 2 * (share_N @ one_N) * (share_N @ other_N)
    return float(1 - observed / by_chance) if by_chance > 1e-12 else float("nan")
