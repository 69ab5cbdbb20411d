"""Which images keep their labels when a model is trained with a share of them: the same share of each class.

An image may be of several classes, so images are counted by combination of labels: of each the same share is kept, to
within one image, and which combinations get one more is chosen so that the share of each class comes nearest to what is
asked for. Which images of a combination keep their labels, a hash of their ids decides.

Shapes: N images, Y labels, K combinations of labels.
Source: EMIXER §6.3.2, "randomly selecting 30 % of the samples from each class".
"""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_EPSILON = 1e-9
"""Of sums of floats that stand for whole images."""


def kept_hashes(hash_N: Hashes, present_NY: NDArray[np.uint8], fraction: float) -> Hashes:
    """Of the labelled images those that keep their labels, by the hash of their ids, in ascending order."""
    order_N = np.argsort(hash_N, kind="stable")
    hash_N, present_NY = hash_N[order_N], present_NY[order_N]
    vectors_KY, first_K, kind_N, counts_K = np.unique(
        present_NY, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    kind_N = kind_N.reshape(-1)
    num_K = _images_to_keep(vectors_KY, counts_K, first_K, fraction)
    by_kind_N = np.argsort(kind_N, kind="stable")
    place_N = np.empty(len(kind_N), np.int64)
    place_N[by_kind_N] = np.arange(len(kind_N)) - np.repeat(np.cumsum(counts_K) - counts_K, counts_K)
    kept: Hashes = hash_N[place_N < num_K[kind_N]]
    return kept


def _images_to_keep(
    vectors_KY: NDArray[np.uint8], counts_K: NDArray[np.int64], first_K: NDArray[np.int64], fraction: float
) -> NDArray[np.int64]:
    """Of each combination its share, rounded down or up so that the whole is `fraction` of all images, to within one.

    first: a combination's first image in the order of hashes, which decides between equals.
    """
    num_K: NDArray[np.int64] = np.floor(counts_K * fraction + _EPSILON).astype(np.int64)
    total_Y = counts_K @ vectors_KY.astype(np.int64)
    step_KY = vectors_KY / np.maximum(total_Y, 1)
    missing_Y = fraction * (total_Y > 0) - num_K @ step_KY
    more = round(fraction * int(counts_K.sum())) - int(num_K.sum())
    may_K = num_K < counts_K * fraction - _EPSILON
    num_K[_nearest(step_KY, missing_Y, np.argsort(first_K), may_K, more)] += 1
    return num_K


def _nearest(
    step_KY: NDArray[np.float64], missing_Y: NDArray[np.float64], order_K: NDArray[np.int64],
    may_K: NDArray[np.bool_], num: int,
) -> NDArray[np.bool_]:  # fmt: skip
    """Of the rows that may be chosen the `num` whose sum comes near `missing`: one by one the best, then by exchange of
    one for another as long as that is nearer."""
    chosen_K = np.zeros_like(may_K)

    def best(missing_Y: NDArray[np.float64]) -> tuple[int, float]:
        error_K = np.where(may_K & ~chosen_K, ((missing_Y - step_KY) ** 2).sum(1), np.inf)[order_K]
        return int(order_K[error_K.argmin()]), float(error_K.min())

    for _ in range(num):
        row, _ = best(missing_Y)
        chosen_K[row] = True
        missing_Y = missing_Y - step_KY[row]
    is_nearer = True
    while is_nearer:
        is_nearer = False
        for row in order_K[chosen_K[order_K]]:
            chosen_K[row] = False
            other, error = best(missing_Y + step_KY[row])
            if error < (missing_Y**2).sum() - _EPSILON**2:
                missing_Y, is_nearer = missing_Y + step_KY[row] - step_KY[other], True
                row = other
            chosen_K[row] = True
    return chosen_K
