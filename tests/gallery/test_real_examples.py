"""Tests of emixer.gallery.real_examples."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer.data.labels import LabelPolicy
from emixer.data.schema import ShardInfo
from emixer.data.shards import ShardSet, shard_name, write_shard
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.errors import ShardError
from emixer.files import write_json
from emixer.gallery.real_examples import _varied, read_real_examples

ZEROS, REMEDY = LabelPolicy("zeros", "zeros"), "Ingest with label columns."


def test_pairs_are_rows_of_the_split_with_their_own_report_and_labels(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    pairs = read_real_examples(shards, "validate", 10, ZEROS, REMEDY)
    rows = {row["image"]: row for row in pq.read_table(shards.files("validate")[0]).to_pylist()}
    assert pairs.images_NHW.shape == (10, 32, 32)
    for image_HW, report, labels_Y in zip(pairs.images_NHW, pairs.reports, pairs.labels_NY, strict=True):
        row = rows[image_HW.tobytes()]
        assert (row["report"] or "", row["labels"]) == (report, labels_Y.tolist())


def test_images_without_labels_are_not_shown(tiny_shards: Path) -> None:
    pairs = read_real_examples(ShardSet.open(tiny_shards), "validate", 500, ZEROS, REMEDY)
    assert len(pairs.reports) == 28  # of 32, every eighth has none


def test_every_label_is_shown_if_there_is_room() -> None:
    labels = np.zeros((100, 3), np.uint8)
    labels[::2, 0] = 1
    labels[37, 1] = 1
    labels[98:, 2] = 1
    rows = _varied(labels, 6)
    assert len(rows) == 6
    assert sorted(rows.tolist()) == rows.tolist()
    assert (labels[rows].sum(0) > 0).all()
    assert 37 in _varied(labels, 1)  # the rarest first
    assert len(_varied(labels, 1)) == 1
    assert len(_varied(labels, 1000)) == 100


def test_uncertain_labels_count_as_configured_and_null_ones_are_absent(tmp_path: Path) -> None:
    info = ShardInfo(4, ("A", "B", "C"), "findings", 1, "test")
    row = {"dicom_id": "a", "study_id": "a", "subject_id": "a", "split": "validate", "image": bytes(16), "source": "t"}
    rows = [row | {"labels": [1, -1, None]}, row | {"labels": None}, row | {"labels": [0, 1, -1]}]
    path = tmp_path / shard_name("validate", 0)
    write_shard(path, pa.Table.from_pylist(rows, schema=info.arrow_schema()), info, 16)
    listed = {"name": path.name, "split": "validate", "num_rows": 3, "num_bytes": path.stat().st_size, "sha256": ""}
    write_json(tmp_path / "manifest.json", {"shards": [listed]})
    Vocabulary(SPECIAL_TOKENS).save(tmp_path / "vocabulary.json")
    shards = ShardSet.open(tmp_path)
    for uncertain, expected in (("zeros", [[1, 0, 0], [0, 1, 0]]), ("ones", [[1, 1, 0], [0, 1, 1]])):
        pairs = read_real_examples(shards, "validate", 3, LabelPolicy(uncertain, "zeros"), REMEDY)  # type: ignore[arg-type]
        assert pairs.labels_NY.tolist() == expected


def test_an_empty_split_is_refused(tiny_shards: Path) -> None:
    with pytest.raises(ShardError, match="no split"):
        read_real_examples(ShardSet.open(tiny_shards), "holdout", 3, ZEROS, REMEDY)
