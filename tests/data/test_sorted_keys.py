"""Keys compared by sorting: the same answers as dictionaries of them give."""

import numpy as np
import pyarrow as pa
import pytest

from emixer.data.sorted_keys import first_rows, num_distinct, repeated_rows, sorted_rows


def test_equal_keys_are_neighbours_in_their_order() -> None:
    order, is_same = sorted_rows(pa.chunked_array([["b", "a"], ["b", "", "a", "b"]]))
    assert order.tolist() == [3, 1, 4, 0, 2, 5]
    assert is_same.tolist() == [False, True, False, True, True]


@pytest.mark.parametrize("num_values", [1, 7, 1000])
def test_first_rows_and_counts_are_those_of_a_dictionary(num_values: int) -> None:
    values = np.random.default_rng(num_values).integers(0, num_values, 500)
    keys = [f"id-{value}" for value in values]
    expected: dict[str, int] = {}
    for row, key in enumerate(keys):
        expected.setdefault(key, row)
    assert sorted(first_rows(pa.array(keys))) == sorted(expected.values())
    repeated = [row for row, key in enumerate(keys) if keys.count(key) > 1]
    assert sorted(repeated_rows(pa.array(keys))) == repeated
    assert num_distinct(pa.chunked_array([keys[:300], keys[300:]])) == len(expected)
    hashes = pa.array([key.encode().ljust(16) for key in keys], pa.binary(16))
    assert sorted(first_rows(hashes)) == sorted(expected.values())


@pytest.mark.parametrize("keys", [[], ["a"]])
def test_few_keys(keys: list[str]) -> None:
    column = pa.chunked_array([keys], pa.string())
    assert first_rows(column).tolist() == list(range(len(keys)))
    assert repeated_rows(column).tolist() == []
    assert sorted_rows(column)[1].tolist() == []
