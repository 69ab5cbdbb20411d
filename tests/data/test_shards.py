"""Shards on disk: atomic writing, and one clear error for everything that can be wrong with a folder of them."""

import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer.data.schema import ShardInfo
from emixer.data.shards import ShardSet, open_shard, shard_name, write_shard
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.errors import ShardError, StorageError
from emixer.files import sha256_of, write_json

INFO = ShardInfo(
    side_px=4, label_names=("Edema", "Mass"), section_rule="drop", tokenizer_version=1, package_version="0.1.0"
)


def rows(num: int, split: str = "train", info: ShardInfo = INFO) -> pa.Table:
    columns = {
        "dicom_id": [f"image-{i}" for i in range(num)],
        "study_id": [f"study-{i}" for i in range(num)],
        "subject_id": [f"subject-{i}" for i in range(num)],
        "view": ["PA", None] * (num // 2) + ["PA"] * (num % 2),
        "split": [split] * num,
        "image": [bytes([i % 256]) * info.side_px**2 for i in range(num)],
        "report": [None if i % 3 else "Clear." for i in range(num)],
        "sentences": [None if i % 3 else [["clear"]] for i in range(num)],
        "labels": [None if i % 2 else [1, None] for i in range(num)],
        "source": ["test"] * num,
    }
    return pa.table(columns, schema=info.arrow_schema())


def write_set(folder: Path, counts: dict[str, list[int]], info: ShardInfo = INFO) -> None:
    entries = []
    for split, sizes in counts.items():
        for index, num in enumerate(sizes):
            path = folder / shard_name(split, index)
            write_shard(path, rows(num, split, info), info, row_group_rows=2)
            entry = {"name": path.name, "split": split, "num_rows": num, "num_bytes": path.stat().st_size}
            entries.append(entry | {"sha256": sha256_of(path)})
    write_json(folder / "manifest.json", {"shards": entries})
    Vocabulary(SPECIAL_TOKENS).save(folder / "vocabulary.json")


def test_rows_come_back_as_written_in_small_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "train-00000.parquet"
    with open_shard(path, INFO, row_group_rows=3) as writer:
        writer.write(rows(2))
        writer.write(rows(5).slice(2))
    assert pq.read_table(path).equals(rows(5))
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [3, 2]


def test_a_write_that_fails_leaves_neither_the_file_nor_debris(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dicom_id"), open_shard(tmp_path / "train-00000.parquet", INFO, 3) as writer:
        writer.write(rows(40).set_column(0, "dicom_id", pa.array([None] * 40, pa.string())))
    assert list(tmp_path.iterdir()) == []


def test_an_opened_set_knows_its_files_rows_and_labels(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [3, 2], "validate": [1]})
    shards = ShardSet.open(tmp_path)
    assert [p.name for p in shards.files("train")] == ["train-00000.parquet", "train-00001.parquet"]
    assert (shards.num_rows("train"), shards.num_rows("validate"), shards.num_rows("test")) == (5, 1, 0)
    assert shards.info == INFO
    assert shards.splits == ("train", "validate")
    shards.verify()


def test_reports_are_looked_for_up_to_the_first(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [3, 2], "validate": [2]})
    shards = ShardSet.open(tmp_path)
    (tmp_path / shard_name("train", 1)).unlink()
    assert shards.has_reports("train")
    assert not shards.has_reports("test")


def test_an_empty_split_says_where_images_are(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    with pytest.raises(ShardError, match=r"'test' .* is empty; images are in: train"):
        ShardSet.open(tmp_path).files("test")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    with pytest.raises(ShardError, match="no split 'val'"):
        ShardSet.open(tmp_path).files("val")


def test_a_folder_without_shards_says_so(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no folder"):
        ShardSet.open(tmp_path / "absent")
    (tmp_path / "1.jpg").touch()
    with pytest.raises(ShardError, match=r"holds no shards .* Give the --out folder of"):
        ShardSet.open(tmp_path)


def test_an_unfinished_ingest_is_told_from_an_empty_folder(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-00000.parquet", rows(2), INFO, 2)
    with pytest.raises(ShardError, match="has not finished"):
        ShardSet.open(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2, 2]})
    (tmp_path / "train-00001.parquet").unlink()
    with pytest.raises(ShardError, match=r"train-00001\.parquet is missing"):
        ShardSet.open(tmp_path)


def test_a_shard_cut_in_half_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    path = tmp_path / "train-00000.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ShardError, match=r"train-00000\.parquet cannot be read as Parquet"):
        ShardSet.open(tmp_path)


def test_a_changed_byte_inside_a_shard_is_found_by_verify(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    path = tmp_path / "train-00000.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match="SHA-256 differs"):
        ShardSet.open(tmp_path).verify()


def test_shards_of_another_version_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]}, replace(INFO, shard_version=99))
    with pytest.raises(ShardError, match="shard version 99"):
        ShardSet.open(tmp_path)


def test_shards_that_say_more_than_this_version_knows_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    path = tmp_path / "train-00000.parquet"
    table = pq.read_table(path)
    told = json.loads(table.schema.metadata[b"emixer"]) | {"laterality": "left"}
    pq.write_table(table.replace_schema_metadata({"emixer": json.dumps(told)}), path)
    with pytest.raises(ShardError, match="newer emixer: this one does not know laterality"):
        ShardSet.open(tmp_path)


def test_parquet_of_another_schema_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    pq.write_table(pa.table({"x": [1]}), tmp_path / "train-00000.parquet")
    with pytest.raises(ShardError, match="not an emixer shard"):
        ShardSet.open(tmp_path)


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    table = rows(2)
    wrong = table.set_column(0, "dicom_id", pa.array([1, 2]))
    pq.write_table(wrong.replace_schema_metadata(table.schema.metadata), tmp_path / "train-00000.parquet")
    with pytest.raises(ShardError, match="dicom_id"):
        ShardSet.open(tmp_path)


def test_shards_of_two_sizes_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2], "test": [2]})
    other = replace(INFO, side_px=8)
    path = tmp_path / "test-00000.parquet"
    write_shard(path, rows(2, "test", other), other, 2)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["shards"][1]["num_bytes"] = path.stat().st_size
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(ShardError, match=r"side_px is 4 .* but 8"):
        ShardSet.open(tmp_path)


def test_a_shard_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, {"train": [2]})
    write_shard(tmp_path / "train-00007.parquet", rows(2), INFO, 2)
    with pytest.raises(ShardError, match=r"does not list, e\.g\. train-00007"):
        ShardSet.open(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"shards": [{"name": "x"}]}', '{"shards": []}'])
def test_a_damaged_manifest_is_one_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ShardError, match=r"manifest\.json|every image was excluded"):
        ShardSet.open(tmp_path)


@pytest.mark.parametrize("closed", ["manifest.json", "train-00000.parquet", "vocabulary.json", "."])
def test_what_belongs_to_somebody_else_is_not_called_damaged(tmp_path: Path, closed: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else for a while")
    folder = Path(tempfile.mkdtemp(dir="/tmp")) / "shards"  # what pytest makes is closed to others anyway
    folder.parent.chmod(0o755)
    try:
        write_set(folder, {"train": [2]})
        folder.chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o644)
        os.seteuid(1)
        assert ShardSet.open(folder).num_rows("train") == 2
        os.seteuid(0)
        (folder / closed).chmod(0o700)
        os.seteuid(1)
        with pytest.raises(StorageError, match="No permission to read") as raised:
            ShardSet.open(folder)
        assert str(folder / closed) in str(raised.value)
    finally:
        os.seteuid(0)
        shutil.rmtree(folder.parent)
