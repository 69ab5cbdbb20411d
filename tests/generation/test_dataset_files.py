"""Which rows stand in which file, what a row is, and that a file is whole or absent."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emixer.errors import ConfigError, RunFolderError, StorageError
from emixer.generation.dataset_files import (
    DATA_FOLDER,
    Layout,
    RowFormat,
    Rows,
    check_layout,
    is_finished,
    open_file,
    unlisted_files,
)
from emixer.generation.manifest import read_audit, read_finished_manifest, read_manifest
from tests.closed import closed, open_folder

FORMAT = RowFormat(("Edema", "Pleural Effusion"), seed=9, image_format="png")
LAYOUT = Layout(num_rows=20, rows_per_file=8, rows_per_group=4)


def _table(first: int, num: int, side_px: int = 8) -> pa.Table:
    images = np.random.default_rng(first).integers(0, 256, (num, side_px, side_px), dtype=np.uint8)
    labels = np.arange(2 * num).reshape(num, 2).astype(np.uint8) % 2
    return FORMAT.table(first, images, [f"Report {first + i}." for i in range(num)], labels)


def _write(path: Path, rows: Rows, sizes: list[int], fingerprint: str = "mark") -> None:
    with open_file(path, rows, LAYOUT, FORMAT, fingerprint) as writer:
        first = rows.first
        for size in sizes:
            writer.write(_table(first, size))
            first += size


def test_files_are_named_as_the_hub_names_them_and_cover_all_rows() -> None:
    assert LAYOUT.files == [
        ("train-00000-of-00003.parquet", Rows(0, 8)),
        ("train-00001-of-00003.parquet", Rows(8, 8)),
        ("train-00002-of-00003.parquet", Rows(16, 4)),
    ]
    assert Layout(600_000, 8192, 512).files[-1] == ("train-00073-of-00074.parquet", Rows(598_016, 1_984))


def test_row_holds_image_report_labels_seed_and_index() -> None:
    row = _table(5, 2).to_pylist()[1]
    image = Image.open(io.BytesIO(row["image"]["bytes"]))
    expected = np.random.default_rng(5).integers(0, 256, (2, 8, 8), dtype=np.uint8)[1]
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert row["image"]["path"] == "000000006.png"
    del row["image"]
    assert row == {"report": "Report 6.", "Edema": 0, "Pleural Effusion": 1, "seed": 9, "index": 6}


def test_row_groups_do_not_depend_on_the_pieces_that_rows_come_in(tmp_path: Path) -> None:
    for name, sizes in {"few": [8], "many": [1, 2, 3, 2]}.items():
        _write(tmp_path / name, Rows(8, 8), sizes)
        metadata = pq.read_metadata(tmp_path / name)
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4]
    one, other = (pq.read_table(tmp_path / name) for name in ("few", "many"))
    assert one.drop_columns(["image"])["index"].to_pylist() == list(range(8, 16))
    assert one["index"].equals(other["index"])


def test_gap_double_or_overrun_is_never_written(tmp_path: Path) -> None:
    for first, num, message in ((9, 2, "in order"), (7, 2, "in order"), (8, 9, "next file")):
        with (
            pytest.raises(AssertionError, match=message),
            open_file(tmp_path / "rows", Rows(8, 8), LAYOUT, FORMAT, "mark") as writer,
        ):
            writer.write(_table(first, num))
    assert list(tmp_path.iterdir()) == []


def test_file_cut_short_of_another_dataset_or_other_rows_is_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    assert not is_finished(path, Rows(8, 8), "mark")
    _write(path, Rows(8, 8), [8])
    assert is_finished(path, Rows(8, 8), "mark")
    assert not is_finished(path, Rows(8, 8), "other")
    assert not is_finished(path, Rows(8, 7), "mark")
    assert not is_finished(path, Rows(0, 8), "mark")
    path.write_bytes(path.read_bytes()[:-100])
    assert not is_finished(path, Rows(8, 8), "mark")


def test_parquet_of_a_stranger_is_noticed_and_debris_is_not(tmp_path: Path) -> None:
    data = tmp_path / DATA_FOLDER
    data.mkdir()
    for name in (
        "train-00001-of-00003.parquet",
        "train-00001-of-00009.parquet",
        ".partial-train-00002-of-00003.parquet-1",
    ):
        (data / name).touch()
    assert unlisted_files(tmp_path, LAYOUT) == ["train-00001-of-00009.parquet"]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, r"is not a finished dataset of `emixer generate` \(no manifest\.json\)"),
        ({"shards": [], "splits": {}}, "its manifest.json is of something else"),
        ([], "its manifest.json is of something else"),
        ("not JSON", "cannot be read"),
        ({"manifest_version": 9, "complete": True, "settings": {}}, "manifest version 9, this emixer has 1"),
        ({"manifest_version": 1, "complete": False, "settings": {}}, "same `emixer generate` command again"),
    ],
)
def test_nobody_who_reads_a_folder_is_told_to_empty_it(tmp_path: Path, manifest: object, message: str) -> None:
    (tmp_path / "1.jpg").write_bytes(b"a radiograph")
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunFolderError, match=message) as caught:
        read_finished_manifest(tmp_path)
    assert "empty" not in str(caught.value).replace(str(tmp_path), "")


def test_somebody_elses_dataset_is_told_apart_from_none_and_from_a_damaged_one() -> None:
    with open_folder() as folder:
        manifest, audit = folder / "manifest.json", folder / "audit" / "audit.json"
        audit.parent.mkdir()
        for file in (manifest, audit):
            file.write_text("{}")
        for path, read in (
            (folder, read_finished_manifest), (folder, read_manifest), (folder, read_audit),
            (manifest, read_finished_manifest), (manifest, read_manifest), (audit, read_audit),
        ):  # fmt: skip
            with closed(path), pytest.raises(StorageError, match=f"No permission to read {path}"):
                read(folder)


def test_label_named_like_a_column_is_refused() -> None:
    with pytest.raises(ConfigError, match="label named 'index'"):
        RowFormat(("Edema", "index"), 0, "png")


@pytest.mark.parametrize(
    ("layout", "batch_size", "side_px", "message"),
    [
        (
            Layout(10, 1024, 500),
            64,
            32,
            r"rows_per_group=500 is not a multiple of generate\.batch_size=64.*rows_per_group=512",
        ),
        (Layout(10, 1000, 512), 64, 32, r"rows_per_file=1000 is not a multiple.*rows_per_file=1024"),
        (Layout(10, 8192, 8192), 64, 256, r"row groups of 545 MB.*at most rows_per_group=4480"),
    ],
)
def test_layout_that_does_not_nest_or_is_too_large_is_refused(
    layout: Layout, batch_size: int, side_px: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_layout(layout, batch_size, side_px)


def test_full_disk_is_said_and_harms_no_finished_file(small_disk: Callable[[int], Path]) -> None:
    folder = small_disk(1024)
    _write(folder / "first", Rows(0, 8), [8])
    with (
        pytest.raises(StorageError, match=r"disk or quota is full.*run the same command again"),
        open_file(folder / "second", Rows(8, 8), LAYOUT, FORMAT, "mark") as writer,
    ):
        writer.write(_table(8, 8, side_px=512))
    assert [path.name for path in folder.iterdir()] == ["first"]
    assert is_finished(folder / "first", Rows(0, 8), "mark")
