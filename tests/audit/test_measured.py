"""Two audits that measure the same images into the same folder at the same time; a disk that is too small for one."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from emixer.audit.measured import ImageFile, Measured, measure
from emixer.errors import StorageError
from tests.audit_data import SIDE_PX, images, write_shards

NUM = 6


class Network:
    """One feature, the mean gray value; works on once it is let go."""

    num_features = 1
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.is_at_work, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, image_BCHW: Tensor) -> Tensor:
        self.is_at_work.set()
        assert self.may_go_on.wait(60)
        return image_BCHW.float().mean((1, 2, 3))[:, None]


def test_the_second_to_finish_leaves_what_the_first_one_reads(tmp_path: Path) -> None:
    image = images(NUM, seed=0)
    shards = write_shards(tmp_path / "shards", {"train": (image, None)})
    file = ImageFile.of(shards / "train-00000.parquet", "shard", NUM, SIDE_PX, "sha256", "network", tmp_path / "kept")
    first, second = Network(), Network()
    late = threading.Thread(target=measure, args=(file, second))
    late.start()
    assert second.is_at_work.wait(60)
    first.may_go_on.set()
    measure(file, first)
    inode = file.kept.stat().st_ino
    second.may_go_on.set()
    late.join()
    assert file.kept.stat().st_ino == inode
    assert list(file.kept.parent.iterdir()) == [file.kept], "nothing half-written stays behind"
    found = Measured.open([file]).features(np.arange(NUM))
    np.testing.assert_allclose(found[:, 0], image.mean((1, 2)), rtol=1e-3)  # kept with half the precision


def test_disk_without_room_for_all_measurements_is_said_before_anything_is_measured(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    # pages of a mapped file that find no room end the process by a signal, without a word
    image, network = images(NUM, seed=0), Network()
    shards = write_shards(tmp_path / "shards", {"train": (image, None)})
    disk = small_disk(20)
    file = ImageFile.of(shards / "train-00000.parquet", "shard", NUM, SIDE_PX, "sha256", "network", disk)
    with pytest.raises(StorageError, match="the disk or quota is full"):
        measure(file, network)
    assert not network.is_at_work.is_set()
    assert not list(disk.iterdir())
