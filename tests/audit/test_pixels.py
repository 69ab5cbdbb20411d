"""Images that are copies of each other correlate, whatever was done to the copy."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from emixer.audit.pixels import NUM_VARIANTS, coarse, correlation, ranked, structures, variants
from tests.audit_data import images

NUM = 40


@pytest.fixture(scope="module")
def plain() -> Tensor:
    return torch.from_numpy(images(NUM, seed=3))


def best(query: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Of each query: which reference its descriptor finds, and how much it correlates with that."""
    ranks = ranked(query)
    products_VQR = variants(ranks) @ coarse(ranked(reference)).T
    found_Q = products_VQR.amax(0).argmax(1)
    variant_Q = products_VQR[:, torch.arange(len(query)), found_Q].argmax(0)
    return found_Q, correlation(structures(ranks), structures(ranked(reference))[found_Q], variant_Q)


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


def test_correlation_is_that_of_numpy_where_nothing_is_shifted(plain: Tensor) -> None:
    first, second = structures(ranked(plain[:1])), structures(ranked(plain[1:2]))
    middle = NUM_VARIANTS // 4  # unshifted, not mirrored
    found = correlation(first, second, torch.tensor([middle]))
    template = second[0, 5:59:2, 5:59:2].flatten().numpy()
    expected = max(
        np.corrcoef(first[0, 5 + a : 59 + a : 2, 5 + b : 59 + b : 2].flatten().numpy(), template)[0, 1]
        for a, b in product(range(-2, 3), repeat=2)
    )
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_an_even_image_is_like_nothing() -> None:
    even = ranked(torch.full((2, 32, 32), 7, dtype=torch.uint8))
    assert coarse(even).abs().sum() == 0
    assert correlation(structures(even), structures(even), torch.zeros(2, dtype=torch.int64)).abs().max() < 1e-3
