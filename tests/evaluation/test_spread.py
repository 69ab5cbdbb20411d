"""Rows that stand for all of a list: neither its blocks nor its turns decide which."""

import numpy as np
import torch

from emixer.evaluation.image_metrics import LabelledImages, label_distances
from emixer.evaluation.spread import spread_rows


def test_a_list_in_blocks_and_a_list_of_turns_are_both_represented() -> None:
    blocks, turns = np.repeat(np.arange(12), 100), np.arange(1200) % 12
    rows = spread_rows(1200, 120)
    assert (np.diff(rows) > 0).all()
    assert np.bincount(blocks[rows]).tolist() == [10] * 12
    assert np.bincount(turns[rows], minlength=12).min() > 0
    assert rows.tolist() == spread_rows(1200, 120).tolist()
    assert spread_rows(7, 7).tolist() == list(range(7))
    assert spread_rows(7, 0).tolist() == []


def test_distance_of_a_label_is_over_all_images_that_have_it() -> None:
    """The first half of the generated images is far off."""
    generator = torch.Generator().manual_seed(0)
    real, half, sample = (torch.randn(num, 2, generator=generator) for num in (200, 400, 200))
    whole = torch.cat([half[:200] + 6, half[200:]])
    every = [LabelledImages(features, torch.ones(len(features), 1)) for features in (real, whole, sample)]
    found = label_distances(*every, ["Edema"])["Edema"]
    assert found["images"] == 200
    # half at 0 and half at 6: mean 3, covariance 1 + 9 on and 9 off the diagonal; 18 + tr(S) + 2 - 2 tr(S^0.5)
    eigenvalues = np.array([1 + 18, 1])
    expected = 18 + eigenvalues.sum() + 2 - 2 * np.sqrt(eigenvalues).sum()
    assert abs(found["fid"] / expected - 1) < 0.15
