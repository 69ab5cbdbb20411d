"""Rows by number, whatever the sizes of files and row groups."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer.data.parquet_rows import rows_of
from emixer.errors import ShardError


def damaged(path: Path, why: str) -> ShardError:
    return ShardError(f"{path.name}: {why}")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Rows 0 to 9 in files of six and four, in row groups of four."""
    found = []
    for name, numbers in (("a", range(6)), ("b", range(6, 10))):
        table = pa.table({"number": list(numbers), "words": [[["word", str(n)], []] for n in numbers]})
        found.append(tmp_path / f"{name}.parquet")
        pq.write_table(table, found[-1], row_group_size=4)
    return found


@pytest.mark.parametrize("rows", [[0], [9, 0, 5, 6], [7, 7, 1, 7], list(range(10)), [3, 2]])
def test_rows_stand_in_the_order_given_and_as_often(paths: list[Path], rows: list[int]) -> None:
    table = rows_of(paths, ["words", "number"], rows, damaged)
    assert table["number"].to_pylist() == rows
    assert table["words"].to_pylist() == [[["word", str(n)], []] for n in rows]


def test_rows_behind_the_end_are_left_out(paths: list[Path]) -> None:
    assert rows_of(paths, ["number"], [99, 8, 10, 2], damaged)["number"].to_pylist() == [8, 2]


def test_only_row_groups_that_hold_a_row_are_read(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    paths[1].write_bytes(b"not opened")
    read, whole = [], pq.ParquetFile.read_row_group

    def noted(file: pq.ParquetFile, group: int, columns: list[str]) -> pa.Table:
        read.append(group)
        return whole(file, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    assert rows_of(paths, ["number"], [5, 4], damaged)["number"].to_pylist() == [5, 4]
    assert read == [1]


def test_a_damaged_file_is_named(paths: list[Path]) -> None:
    paths[1].write_bytes(b"cut short")
    with pytest.raises(ShardError, match=r"b\.parquet: ArrowInvalid"):
        rows_of(paths, ["number"], [0, 6], damaged)
