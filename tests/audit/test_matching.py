"""The file of a block's matches."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from emixer.audit.matching import Matches, Side, match_block, read_matches
from emixer.audit.measured import Measured
from emixer.audit.pixels import COARSE_PX, SIDE_PX
from emixer.errors import StorageError

CPU = torch.device("cpu")


@pytest.fixture
def side(tmp_path: Path) -> Side:
    """Three measured images of noise."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "ranks.npy", generator.integers(0, 256, (3, SIDE_PX, SIDE_PX), dtype=np.uint8))
    np.save(tmp_path / "coarse.npy", generator.standard_normal((3, COARSE_PX**2)).astype(np.float16))
    np.save(tmp_path / "features.npy", generator.standard_normal((3, 4)).astype(np.float16))
    return Side(Measured((tmp_path,), (0, 3)), np.arange(3))


def test_matches_that_do_not_fit_on_the_disk_are_a_storage_error(side: Side, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large"):
            match_block(side, 0, side, CPU, tmp_path / "kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found: Matches = read_matches(match_block(side, 0, side, CPU, tmp_path / "kept"))
    assert found.feature_row.tolist() == [0, 1, 2], "each image is nearest to itself"
    assert (found.feature_distance < 0.1).all()
