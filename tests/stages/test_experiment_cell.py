"""What a process of Ray that is used again keeps from one cell for the next."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from emixer.data.labels import CHEXPERT, LabelPolicy
from emixer.data.pair_table import TableShape
from emixer.data.shards import ShardSet
from emixer.stages.experiment import cell


def test_real_pairs_are_those_that_are_in_the_folder_now(make_shards: Callable[..., Path], tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        folder = make_shards(tmp_path / "shards", seed=seed, train=16, validate=16)
        shape = TableShape(CHEXPERT, 32, 1, 2, ShardSet.open(folder).vocabulary)
        policy = LabelPolicy("zeros", "zeros")
        tables = (
            cell._real(folder, "validate", shape, policy).table,
            cell._real_train(folder, shape, policy, num=8, draw=0),
        )
        again = cell._real(folder, "validate", shape, policy).table
        assert again is tables[0], "read once"
        found.append([table.take(np.arange(8)).image_NHW for table in tables])
    for before, after in zip(*found, strict=True):
        assert not np.array_equal(before, after)
