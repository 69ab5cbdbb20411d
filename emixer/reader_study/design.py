"""Selection of a study's pairs, and the order in which each reader sees them. Pure functions of candidates and a seed.

Shapes: N candidates, Y labels, S strata (labels to balance over), Q places to fill, P pairs of one side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

NO_LABEL = "no label"
"""Stratum of pairs without any of the labels."""

Sides = Sequence[NDArray[np.bool_]]
"""Strata (N, S) that each candidate may represent, for real and for generated candidates."""


@dataclass(frozen=True)
class Balance:
    """Strata, and the number of pairs of each side that represent each."""

    strata: tuple[str, ...]
    quota_S: NDArray[np.int64]


def strata_of(labels_NY: NDArray[np.uint8], names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the `wanted` strata (N, S) each candidate may represent. names: of the columns of `labels`."""
    columns = [~labels_NY.any(1) if name == NO_LABEL else labels_NY[:, list(names).index(name)] == 1 for name in wanted]
    return np.stack(columns, axis=1) if columns else np.zeros((len(labels_NY), 0), bool)


def evenly(num_pairs: int, strata: Sequence[str]) -> Balance:
    """Equal numbers of pairs for all strata; the first strata get the remainder, one more each."""
    share, rest = divmod(num_pairs, len(strata))
    return Balance(tuple(strata), share + (np.arange(len(strata)) < rest))


def draw(
    may_stand_for_NS: NDArray[np.bool_], quota_S: NDArray[np.int64], seed: Sequence[int]
) -> NDArray[np.int64] | None:
    """Draw rows (P,) at random, without repeats, that fill the strata in turn; None if not all can be filled.

    A maximum matching of places and candidates: a candidate with several labels is used where it is needed. Of each
    stratum, as many candidates as there are places suffice: whatever the other places use, one is left.
    """
    shuffled_N = np.random.default_rng(seed).permutation(len(may_stand_for_NS))
    stratum_Q = np.repeat(np.arange(len(quota_S)), quota_S)
    if not len(shuffled_N):
        return None
    fits_NS = may_stand_for_NS[shuffled_N]
    fits_NS &= fits_NS.cumsum(axis=0) <= len(stratum_Q)
    fits_QN = csr_array(fits_NS.T.astype(np.uint8))[stratum_Q]
    found_Q = maximum_bipartite_matching(fits_QN, perm_type="column")
    return None if (found_Q < 0).any() else shuffled_N[found_Q]


def widest_balance(sides: Sides, strata: Sequence[str], num_pairs: int) -> Balance | None:
    """Largest set of strata that both sides can fill evenly, dropping the scarcest one by one; None if not even one."""
    scarcest_S = np.min([side_NS.sum(0) for side_NS in sides], axis=0)
    order = [int(s) for s in np.argsort(-scarcest_S, kind="stable") if scarcest_S[s]][:num_pairs]
    for count in range(len(order), 0, -1):
        kept = sorted(order[:count])
        balance = evenly(num_pairs, [strata[s] for s in kept])
        if (scarcest_S[kept] >= balance.quota_S).all() and all(
            draw(side_NS[:, kept], balance.quota_S, seed=[0]) is not None for side_NS in sides
        ):
            return balance
    return None


def orders(num_pairs: int, num_repeats: int, num_readers: int, seed: int) -> list[NDArray[np.int64]]:
    """Order of the pairs for each reader, with repeated ones twice.

    num_pairs: of both sides together, the real ones first. The same pairs are repeated for all readers, half of them
    real (one more real for an odd number). Each is shown again half a list later.
    """
    of_side = num_pairs // 2
    generator = np.random.default_rng([seed, 1])
    real = generator.permutation(of_side)[: -(-num_repeats // 2)]
    generated = of_side + generator.permutation(of_side)[: num_repeats // 2]
    repeated = np.concatenate([real, generated])
    return [_order(num_pairs, repeated, np.random.default_rng([seed, 2, reader])) for reader in range(num_readers)]


def _order(num_pairs: int, repeated: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    length = num_pairs + len(repeated)
    back = length // 2
    first = generator.permutation(back)[: len(repeated)]
    order = np.full(length, -1, np.int64)
    order[first] = order[first + back] = generator.permutation(repeated)
    others = np.setdiff1d(np.arange(num_pairs), repeated)
    order[order < 0] = generator.permutation(others)
    return order
