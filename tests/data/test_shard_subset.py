"""Shards with part of another folder's training images: those that a classifier is given with the same seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer.data.labels import CHEXPERT, LabelPolicy
from emixer.data.pair_table import TableShape, read_real
from emixer.data.shard_subset import write_subset
from emixer.data.shards import ShardSet
from emixer.errors import ShardError


@pytest.mark.parametrize(("num", "seed"), [(1, 0), (4_500, 3)])
def test_subset_has_the_images_of_a_draw_that_may_span_windows(
    make_shards: Callable[..., Path], tmp_path: Path, num: int, seed: int
) -> None:
    shards = ShardSet.open(make_shards(tmp_path / "whole", train=5_000, validate=32, test=16))
    write_subset(shards, num, seed, tmp_path / "part")
    part = ShardSet.open(tmp_path / "part")
    shape = TableShape(tuple(CHEXPERT), 32, 4, 6, shards.vocabulary)
    drawn = read_real(shards, "train", shape, LabelPolicy("ignore", "zeros"), num, seed)
    images = pa.concat_tables(pq.read_table(file) for file in part.files("train"))
    assert images["image"].to_pylist() == [bytes(image) for image in drawn.image_NHW]
    given = np.array([row is not None for row in images["labels"].to_pylist()])
    assert np.array_equal(given, ~np.isnan(drawn.labels_NY).all(1))
    counts = part.manifest["labels"]["train"]
    assert counts["unlabelled_images"] == (~given).sum()
    present = {name: counts["names"][name]["present"] for name in CHEXPERT}
    assert present == dict(zip(CHEXPERT, np.nansum(drawn.labels_NY, axis=0).astype(int).tolist(), strict=True))
    assert part.manifest["splits"]["train"]["images"] == num
    whole, copied = (pq.read_table(each.files("validate")[0]) for each in (shards, part))
    assert copied.equals(whole)
    assert part.splits == ("train", "validate")


def test_subset_larger_than_the_split_is_refused_and_writes_nothing(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"97 real images are needed; the train split of .* has 96"):
        write_subset(ShardSet.open(tiny_shards), 97, 0, tmp_path / "part")
    assert not list(tmp_path.iterdir())
