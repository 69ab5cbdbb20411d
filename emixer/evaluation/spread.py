"""A choice of rows that stands for all of them, whatever the order in which they are listed."""

import numpy as np
from numpy.typing import NDArray

_SEED = 20200711


def spread_rows(num_all: int, num: int) -> NDArray[np.int64]:
    """`num` of `num_all` rows, ascending: one drawn from each of `num` stretches of equal length, always the same ones.

    The first rows are no sample of a list in blocks, such as a plan that lists one label after the other, and every
    k-th row is none of a list that takes turns, such as a balanced plan.
    """
    ends = np.arange(num + 1) * num_all // max(num, 1)
    return np.random.default_rng(_SEED).integers(ends[:-1], ends[1:])
