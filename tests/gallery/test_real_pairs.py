"""Tests of emixer.gallery.real_pairs."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emixer.data.shards import ShardSet
from emixer.errors import ShardError
from emixer.gallery.real_pairs import _varied, read_real_pairs


def test_pairs_are_rows_of_the_split_with_their_own_report_and_labels(tiny_shards: Path) -> None:
    shards = ShardSet.open(tiny_shards)
    pairs = read_real_pairs(shards, "validate", 10, uncertain_is=0)
    rows = {row["image"]: row for row in pq.read_table(shards.files("validate")[0]).to_pylist()}
    assert pairs.images_NHW.shape == (10, 32, 32)
    for image_HW, report, labels_Y in zip(pairs.images_NHW, pairs.reports, pairs.labels_NY, strict=True):
        row = rows[image_HW.tobytes()]
        assert (row["report"] or "", row["labels"]) == (report, labels_Y.tolist())


def test_images_without_labels_are_not_shown(tiny_shards: Path) -> None:
    pairs = read_real_pairs(ShardSet.open(tiny_shards), "validate", 500, uncertain_is=0)
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


def test_an_empty_split_is_refused(tiny_shards: Path) -> None:
    with pytest.raises(ShardError, match="no split"):
        read_real_pairs(ShardSet.open(tiny_shards), "holdout", 3, uncertain_is=0)
