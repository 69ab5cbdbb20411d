"""Images that are copies of each other correlate, whatever was done to the copy."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor

from emixer.audit.pixels import coarse, correlation, ranked, structures, templates, variants
from tests.audit_data import images

NUM = 40
SHIFTS = list(product((-3, 0, 3), repeat=2))


@pytest.fixture(scope="module")
def plain() -> Tensor:
    return torch.from_numpy(images(NUM, seed=3))


def best(query: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Of each query: which reference its descriptor finds, and how much it correlates with that."""
    ranks = ranked(query)
    products_VQR = variants(ranks) @ coarse(ranked(reference)).T
    found_Q = products_VQR.amax(0).argmax(1)
    variant_Q = products_VQR[:, torch.arange(len(query)), found_Q].argmax(0)
    return found_Q, correlation(structures(ranks), templates(ranked(reference))[found_Q], variant_Q)


def test_any_window_that_keeps_the_order_of_grays_changes_nothing(plain: Tensor) -> None:
    darker = plain // 2
    torch.testing.assert_close(ranked(2 * darker + 1), ranked(darker), atol=0, rtol=0)
    assert ranked(darker).float().std() > 60, "all ranks are used"


@pytest.mark.parametrize(("down", "right"), list(product((-3, 0, 2), (-2, 1, 3))))
def test_shifted_copies_are_found_in_place(plain: Tensor, down: int, right: int) -> None:
    large = torch.nn.functional.interpolate(plain[:, None].float(), (64, 64), mode="bilinear").to(torch.uint8)[:, 0]
    padded = torch.nn.functional.pad(large[:, None].float(), (4,) * 4, mode="replicate")[:, 0].to(torch.uint8)
    shifted = padded[:, 4 + down : 68 + down, 4 + right : 68 + right]
    found, correlated = best(shifted, large)
    assert found.tolist() == list(range(NUM))
    assert correlated.min() > 0.97


def test_mirrored_copies_are_copies(plain: Tensor) -> None:
    found, correlated = best(plain.flip(2), plain)
    assert found.tolist() == list(range(NUM))
    torch.testing.assert_close(correlated, torch.ones(NUM), atol=1e-4, rtol=0)


def test_other_images_correlate_less_than_noisy_copies(plain: Tensor) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 8, plain.shape))
    noisy = (plain + noise).clamp(0, 255).to(torch.uint8)
    found, of_copies = best(noisy, plain)
    _, of_others = best(torch.from_numpy(images(NUM, seed=4)), plain)
    assert found.tolist() == list(range(NUM))
    assert of_copies.min() > of_others.max()


def shifted(image: NDArray[np.uint8], variant: int) -> NDArray[np.uint8]:
    """Return the image (64, 64) as a variant has it: mirrored, then moved, its border repeated."""
    mirrored, (down, right) = variant >= len(SHIFTS), SHIFTS[variant % len(SHIFTS)]
    padded = np.pad(image[:, ::-1] if mirrored else image, 3, mode="edge")
    return padded[3 + down : 67 + down, 3 + right : 67 + right]


def test_variants_are_descriptors_of_the_mirrored_and_shifted_image(plain: Tensor) -> None:
    ranks = ranked(plain[:4])
    found = variants(ranks)
    assert len(found) == 2 * len(SHIFTS)
    for variant in range(2 * len(SHIFTS)):
        means = np.stack([shifted(image, variant).reshape(8, 8, 8, 8).mean((1, 3)).ravel() for image in ranks.numpy()])
        centred = means - means.mean(1, keepdims=True)
        expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        np.testing.assert_allclose(found[variant].numpy(), expected, atol=1e-6)


def test_structures_are_differences_of_box_means(plain: Tensor) -> None:
    ranks = ranked(plain[:2])
    expected = [
        uniform_filter(image.astype(float), 3, mode="nearest") - uniform_filter(image.astype(float), 19, mode="nearest")
        for image in ranks.numpy()
    ]
    np.testing.assert_allclose(structures(ranks).numpy(), np.stack(expected), atol=1e-4)


@pytest.mark.parametrize("variant", range(2 * len(SHIFTS)))
def test_correlation_is_the_highest_of_numpy_over_all_alignments(plain: Tensor, variant: int) -> None:
    ranks = ranked(plain[:2])
    query, reference = structures(ranks).numpy()
    found = correlation(structures(ranks[:1]), templates(ranks[1:]), torch.tensor([variant]))
    moved, template = shifted(query, variant), reference[5:59:2, 5:59:2].flatten()
    expected = max(
        np.corrcoef(moved[5 + a : 59 + a : 2, 5 + b : 59 + b : 2].flatten(), template)[0, 1]
        for a, b in product(range(-2, 3), repeat=2)
    )
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_an_even_image_is_like_nothing() -> None:
    even = ranked(torch.full((2, 32, 32), 7, dtype=torch.uint8))
    assert coarse(even).abs().sum() == 0
    assert correlation(structures(even), templates(even), torch.zeros(2, dtype=torch.int64)).abs().max() < 1e-3
