"""The draw: balance over labels, no pair twice, an order for each reader."""

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from emixer.reader_study.design import NO_LABEL, draw, evenly, orders, strata_of, widest_balance

NAMES = ("A", "B", "C")


def labels(*rows: str) -> np.ndarray:
    """Return one candidate per text, with the labels its letters name."""
    return np.array([[letter in row for letter in NAMES] for row in rows], np.uint8)


def test_stratum_is_a_label_or_no_label() -> None:
    found = strata_of(labels("A", "AC", ""), NAMES, ("C", NO_LABEL, "A"))
    assert found.tolist() == [[False, False, True], [True, False, True], [False, True, False]]


def test_pairs_are_shared_evenly_and_the_first_labels_get_one_more() -> None:
    assert evenly(8, NAMES).quota_S.tolist() == [3, 3, 2]


@pytest.mark.parametrize("seed", range(20))
def test_pair_with_several_labels_goes_where_it_is_needed(seed: int) -> None:
    # A can be filled only if both AB count for B: a draw that takes labels in turn would fail for some seeds
    offered = labels("AB", "A", "AB", "A")
    rows = draw(strata_of(offered, NAMES, ("A", "B")), np.array([2, 2]), [seed])
    assert rows is not None
    assert sorted(rows[:2].tolist()) == [1, 3]
    assert sorted(rows[2:].tolist()) == [0, 2]


def test_nothing_is_drawn_if_a_quota_cannot_be_filled() -> None:
    offered = strata_of(labels("AB", "A"), NAMES, ("A", "B"))
    assert draw(offered, np.array([1, 2]), [0]) is None
    assert draw(offered[:0], np.array([1, 0]), [0]) is None


@pytest.mark.parametrize("seed", range(50))
def test_draw_succeeds_whenever_all_candidates_together_fill_the_strata(seed: int) -> None:
    generator = np.random.default_rng(seed)
    offered = generator.random((40, 3)) < generator.random(3) / 2
    quota = generator.integers(0, 6, 3)
    places = np.repeat(np.arange(3), quota)
    of_all = maximum_bipartite_matching(csr_array(offered.T[places].astype(np.uint8)), perm_type="column")
    rows = draw(offered, quota, [seed])
    assert (rows is not None) == bool((of_all >= 0).all())
    if rows is not None:
        assert len(set(rows.tolist())) == len(places)
        assert offered[rows, places].all()


def test_many_pairs_are_drawn_of_many_candidates_in_little_memory() -> None:
    offered = np.ones((100_000, 2), bool)
    tracemalloc.start()
    try:
        rows = draw(offered, np.array([200, 200]), [0])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows is not None
    assert most < 20e6, "a table of places and candidates would take 40 MB"


def test_seed_determines_the_draw_and_every_pair_can_be_drawn() -> None:
    offered = strata_of(labels(*"A" * 10), NAMES, ("A",))
    drawn = [draw(offered, np.array([3]), [seed]) for seed in range(60)]
    assert all(len(set(rows.tolist())) == 3 for rows in drawn if rows is not None)
    assert {int(row) for rows in drawn if rows is not None for row in rows} == set(range(10))
    again = draw(offered, np.array([3]), [0])
    assert drawn[0] is not None
    assert again is not None
    assert drawn[0].tolist() == again.tolist()


def test_scarcest_labels_are_left_out_until_the_rest_fits() -> None:
    real, generated = labels(*"AAAABBBBC"), labels(*"AAAABBBCCC")
    sides = [strata_of(side, NAMES, (*NAMES, NO_LABEL)) for side in (real, generated)]
    found = [widest_balance(sides, (*NAMES, NO_LABEL), num_pairs) for num_pairs in (3, 4, 6, 8)]
    drawn = [None if each is None else (each.strata, each.quota_S.tolist()) for each in found]
    assert drawn == [(NAMES, [1, 1, 1]), (NAMES, [2, 1, 1]), (("A", "B"), [3, 3]), None]


@pytest.mark.parametrize(("num_pairs", "num_repeats"), [(12, 0), (12, 3), (12, 12), (2, 2), (100, 10)])
def test_each_reader_sees_every_pair_and_the_same_repeats_far_apart(num_pairs: int, num_repeats: int) -> None:
    found = orders(num_pairs, num_repeats, num_readers=3, seed=5)
    counts = [np.bincount(order, minlength=num_pairs) for order in found]
    assert all((count == counts[0]).all() for count in counts)
    repeated = np.flatnonzero(counts[0] == 2)
    assert len(repeated) == num_repeats
    assert (counts[0] >= 1).all()
    assert (repeated < num_pairs // 2).sum() == -(-num_repeats // 2)  # half of them real
    for order in found:
        gaps = [np.diff(np.flatnonzero(order == pair))[0] for pair in repeated]
        assert all(gap == len(order) // 2 for gap in gaps)


def test_orders_differ_between_readers_and_are_reproducible() -> None:
    found = orders(100, 10, num_readers=3, seed=5)
    assert not any((found[0] == other).all() for other in found[1:])
    assert all((one == other).all() for one, other in zip(found, orders(100, 10, 3, 5), strict=True))
    # more readers do not change the orders of the first ones
    assert (found[0] == orders(100, 10, 1, 5)[0]).all()
