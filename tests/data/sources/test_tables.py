"""Joining tables that are larger than what is hashed at once: the rows a dictionary would give."""

import pyarrow as pa
import pytest

from emixer.data.sources.tables import lookup


@pytest.mark.parametrize("num_rows", [0, 1, 65_536, 150_000])
def test_row_of_a_key_is_its_first_one_wherever_in_the_table_it_is(num_rows: int) -> None:
    table = [f"id-{row % 140_000}" for row in range(num_rows)]
    first: dict[str, int] = {}
    for row, key in enumerate(table):
        first.setdefault(key, row)
    keys = ["id-5", "id-0", "absent", "id-65535", "id-65536", "id-131072", "id-139999", "id-5"]
    halves = num_rows // 2
    rows = lookup(
        pa.chunked_array([keys[:3], keys[3:]]), pa.chunked_array([table[:halves], table[halves:]], pa.string())
    )
    assert rows.to_pylist() == [first.get(key) for key in keys]
