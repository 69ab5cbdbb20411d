"""Rows of a sampler on the device that draws them."""

from pathlib import Path

import numpy as np
import torch

from emixer.generation.sampler import Sampler
from emixer.generation.trained_model import read_trained_model


def test_a_row_is_the_same_bit_for_bit_however_many_are_drawn(tiny_run: Path, device: torch.device) -> None:
    sampler = Sampler(read_trained_model(tiny_run), device, 16)
    few, many = sampler.sample(num=5, seed=2), sampler.sample(num=49, seed=2)
    np.testing.assert_array_equal(few.images, many.images[:5])
    assert few.reports == many.reports[:5]


def test_another_batch_size_changes_a_pixel_by_two_gray_levels_at_most(tiny_run: Path, device: torch.device) -> None:
    trained = read_trained_model(tiny_run)
    small, large = (Sampler(trained, device, size).sample(num=64, seed=2) for size in (16, 64))
    np.testing.assert_array_equal(small.labels, large.labels)
    assert np.abs(small.images.astype(int) - large.images).max() <= 2
    assert len({image.tobytes() for image in small.images}) == 64
