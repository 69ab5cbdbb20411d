"""Row groups have one size, however long the tables are that rows come in."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer.data.row_group_writer import RowGroupWriter

SCHEMA = pa.schema([("place", pa.int64()), ("text", pa.string())])


def rows(first: int, num: int) -> pa.Table:
    places = range(first, first + num)
    return pa.table({"text": [f"row {place}" for place in places], "place": pa.array(places, pa.int32())})


def write(path: Path, lengths: list[int]) -> list[int]:
    """Tables of those lengths; returns the rows of each row group."""
    with pq.ParquetWriter(path, SCHEMA) as parquet:
        writer = RowGroupWriter(parquet, 4)
        for length in lengths:
            writer.write(rows(writer.num_rows, length))
        assert writer.num_rows == sum(lengths)
        writer.finish()
    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


@pytest.mark.parametrize("lengths", [[10], [1, 2, 3, 4], [1] * 10, [0, 9, 0, 1]])
def test_bytes_of_a_file_do_not_depend_on_the_tables_that_its_rows_came_in(tmp_path: Path, lengths: list[int]) -> None:
    assert write(tmp_path / "file", lengths) == [4, 4, 2]
    assert pq.read_table(tmp_path / "file").equals(rows(0, 10).select(SCHEMA.names).cast(SCHEMA))
    write(tmp_path / "whole", [10])
    assert (tmp_path / "file").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("lengths", [[], [0]])
def test_a_file_without_rows_has_an_empty_row_group(tmp_path: Path, lengths: list[int]) -> None:
    assert write(tmp_path / "file", lengths) == [0]


def test_no_more_than_a_row_group_is_held_back(tmp_path: Path) -> None:
    with pq.ParquetWriter(tmp_path / "file", SCHEMA) as parquet:
        writer = RowGroupWriter(parquet, 4)
        before = (tmp_path / "file").stat().st_size
        writer.write(rows(0, 3))
        assert (tmp_path / "file").stat().st_size == before
        writer.write(rows(3, 1))
        assert (tmp_path / "file").stat().st_size > before
        writer.finish()
    assert pq.read_metadata(tmp_path / "file").num_row_groups == 1
