import math

import numpy as np
import pytest
import torch

from emixer.losses.rotation import in_all_rotations, rotation_cross_entropy
from emixer.losses.row_share import rows_of_share

CPU = torch.device("cpu")


def test_images_are_rotated_as_by_numpy() -> None:
    images = torch.arange(2 * 9.0).view(2, 1, 3, 3)
    turned = in_all_rotations(images)
    assert turned.shape == (8, 1, 3, 3)
    for quarter_turns in range(4):
        for image in range(2):
            expected = np.rot90(images[image, 0].numpy(), quarter_turns)
            assert (turned[quarter_turns * 2 + image, 0].numpy() == expected).all()


def test_rotation_cross_entropy_by_hand() -> None:
    undecided = torch.zeros(8, 4)
    assert rotation_cross_entropy(undecided).item() == pytest.approx(2 * math.log(4))
    right = torch.zeros(8, 4)
    right[range(8), [0, 0, 1, 1, 2, 2, 3, 3]] = math.log(9)  # p = 9 / 12, of both images turned by 0, by 90, ...
    assert rotation_cross_entropy(right).item() == pytest.approx(2 * math.log(12 / 9))


@pytest.mark.parametrize("share", [0.25, 0.3, 1.0])
def test_rotated_rows_of_micro_batches_are_those_of_the_whole_batch(share: float) -> None:
    whole = rows_of_share(0, 40, share, CPU).tolist()
    assert len(whole) == round(40 * share)
    pieces = [first + row for first in (0, 10, 20, 30) for row in rows_of_share(first, 10, share, CPU).tolist()]
    assert pieces == whole


def test_a_quarter_is_every_fourth_row() -> None:
    assert rows_of_share(0, 12, 0.25, CPU).tolist() == [0, 4, 8]


def test_no_rotated_row_costs_nothing() -> None:
    assert rotation_cross_entropy(torch.zeros(0, 4)) == 0
