"""Cohen's kappa with quadratic weights: how far two sets of scores agree beyond chance.

A disagreement counts by the square of its size, so 7 against 8 is little and 1 against 10 is much. 1 is full agreement,
0 that of chance. Of two guesses it is the plain kappa.

Shapes: N items that both have scored.
Source: Cohen 1968.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def weighted_kappa(one_N: Scores, other_N: Scores, weight_N: Scores) -> float:
    """weight: how often each item counts. NaN for fewer than two items, and where chance alone would agree fully."""
    if np.count_nonzero(weight_N) < 2:
        return float("nan")
    share_N = weight_N / weight_N.sum()
    observed = share_N @ (one_N - other_N) ** 2
    # the mean over all combinations of a score of one and a score of the other
    by_chance = share_N @ one_N**2 + share_N @ other_N**2 - 2 * (share_N @ one_N) * (share_N @ other_N)
    return float(1 - observed / by_chance) if by_chance > 1e-12 else float("nan")
