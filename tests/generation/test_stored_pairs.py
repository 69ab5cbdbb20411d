"""The first pairs of a dataset, whatever the sizes of its files and row groups."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emixer.errors import RunFolderError
from emixer.generation.stored_pairs import read_stored_labels, read_stored_pairs

FILES = ("a.parquet", "b.parquet")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Ten pairs that say which they are, in two files with row groups of two."""
    for name, numbers in zip(FILES, (range(6), range(6, 10)), strict=True):
        images = []
        for number in numbers:
            out = io.BytesIO()
            Image.fromarray(np.full((4, 4), 10 * number, np.uint8)).save(out, "PNG")
            images.append({"bytes": out.getvalue(), "path": f"{number}.png"})
        table = pa.table({
            "image": images, "report": [f"Report {n}." for n in numbers],
            "Edema": pa.array([n % 2 for n in numbers], pa.int8()), "Mass": pa.array([0 for _ in numbers], pa.int8()),
        })  # fmt: skip
        pq.write_table(table, tmp_path / name, row_group_size=2)
    return tmp_path


@pytest.mark.parametrize(("num", "there"), [(1, 1), (3, 3), (7, 7), (10, 10), (99, 10)])
def test_the_first_pairs_are_read_in_order(dataset: Path, num: int, there: int) -> None:
    found = read_stored_pairs(dataset, FILES, ["Mass", "Edema"], range(num))
    assert found.reports == tuple(f"Report {n}." for n in range(there))
    assert (found.images_NHW[:, 1, 2] // 10).tolist() == list(range(there))
    assert found.labels_NY.tolist() == [[0, n % 2] for n in range(there)]


def test_files_behind_the_last_pair_are_not_opened_and_a_damaged_one_is_named(dataset: Path) -> None:
    (dataset / "b.parquet").write_bytes(b"cut short")
    assert len(read_stored_pairs(dataset, FILES, ["Edema"], range(6))) == 6
    with pytest.raises(RunFolderError, match=r"b\.parquet cannot be read .* Delete it"):
        read_stored_pairs(dataset, FILES, ["Edema"], range(7))


@pytest.mark.parametrize("rows", [range(10), [99, 8, 0], [7]])
def test_an_image_that_cannot_be_decoded_is_damage_of_its_file(dataset: Path, rows: Sequence[int]) -> None:
    table = pq.read_table(dataset / "b.parquet")
    images = table["image"].to_pylist()
    for row in (1, 2):
        images[row]["bytes"] = images[row]["bytes"][:20]
    pq.write_table(table.set_column(0, "image", pa.array(images)), dataset / "b.parquet", row_group_size=2)
    assert len(read_stored_pairs(dataset, FILES, ["Edema"], [6, 9, 99])) == 2
    with pytest.raises(RunFolderError, match=r"b\.parquet cannot be read \(an image that .* decoded\)\. Delete it"):
        read_stored_pairs(dataset, FILES, ["Edema"], rows)


def test_any_rows_are_read_in_the_order_given_and_labels_alone_of_all(dataset: Path) -> None:
    found = read_stored_pairs(dataset, FILES, ["Edema"], [9, 0, 5, 6])
    assert found.reports == tuple(f"Report {n}." for n in (9, 0, 5, 6))
    assert (found.images_NHW[:, 0, 0] // 10).tolist() == [9, 0, 5, 6]
    assert found.labels_NY.tolist() == [[1], [0], [1], [0]]
    assert read_stored_labels(dataset, FILES, ["Mass", "Edema"]).tolist() == [[0, n % 2] for n in range(10)]
