"""A share of the labels is the same share of each class, and always of the same images."""

import numpy as np
import pytest
from numpy.typing import NDArray

from emixer.data.label_share import kept_hashes

CLASSES = np.array([0.12, 0.09, 0.05, 0.02, 0.03, 0.01, 0.005, 0.006])


def images(num: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Many without a label, some with several, rare classes of a dozen images."""
    generator = np.random.default_rng(seed)
    present = generator.random((num, len(CLASSES))) < CLASSES * generator.gamma(1, 1, (num, 1))
    return generator.integers(2**63, size=num).astype(np.uint64), present.astype(np.uint8)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize(("num", "seed"), [(2163, 0), (2163, 1), (300, 2), (20_000, 3)])
def test_each_class_keeps_its_share_to_within_an_image_and_so_does_the_whole(
    num: int, seed: int, fraction: float
) -> None:
    hashes, present = images(num, seed)
    kept = np.isin(hashes, kept_hashes(hashes, present, fraction))
    assert kept.sum() == round(fraction * num)
    assert np.abs(present[kept].sum(0) - fraction * present.sum(0)).max() <= 1
    vectors, kinds = np.unique(present, axis=0, return_inverse=True)
    for kind in range(len(vectors)):
        of_kind = kinds.reshape(-1) == kind
        assert abs(kept[of_kind].sum() - fraction * of_kind.sum()) < 1


def test_the_order_of_the_images_is_of_no_matter_and_their_ids_decide() -> None:
    hashes, present = images(1000, 4)
    kept = kept_hashes(hashes, present, 0.3)
    assert (np.diff(kept.astype(object)) > 0).all(), "in ascending order"
    turned = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(kept_hashes(hashes[turned], present[turned], 0.3), kept)
    others = np.random.default_rng(1).integers(2**63, size=1000).astype(np.uint64)
    again = np.isin(others, kept_hashes(others, present, 0.3))
    assert again.sum() == 300
    assert (again & np.isin(hashes, kept)).sum() < 200, "other images"


def test_of_one_class_alone_the_smallest_hashes_are_kept() -> None:
    hashes = np.array([9, 2, 7, 4, 1, 8, 3], np.uint64)
    assert kept_hashes(hashes, np.zeros((7, 2), np.uint8), 0.5).tolist() == [1, 2, 3, 4], "3.5 rounded to even"
    assert kept_hashes(hashes, np.eye(7, 7, dtype=np.uint8)[:, :2], 1.0).tolist() == [1, 2, 3, 4, 7, 8, 9]
    assert kept_hashes(np.empty(0, np.uint64), np.empty((0, 2), np.uint8), 0.3).tolist() == []
