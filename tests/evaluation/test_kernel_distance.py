"""Tests of emixer.evaluation.kernel_distance."""

import numpy as np
import pytest
import torch

from emixer.evaluation.kernel_distance import kernel_distance


def two_sets() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the input of the golden values; RandomState's streams never change."""
    random = np.random.RandomState(20180000)
    mix = random.standard_normal((16, 16))
    first = random.standard_normal((300, 16)) @ mix
    second = (0.9 * random.standard_normal((240, 16)) + 0.3) @ mix
    return torch.from_numpy(first.astype(np.float32)), torch.from_numpy(second.astype(np.float32))


# From torch-fidelity 0.4.0, kid_features_to_metric (rng_seed 2020, its default), and torchmetrics 1.9.0, poly_mmd:
# both give the first number. Input: two_sets() in float64, 240 images of each; then 300 subsets of 200 of all images.
WHOLE_240 = 66.3214705156168
MEAN_200, SD_200 = 61.374334854470675, 15.177898225464753


def naive_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the distance pair by pair, for sets of equal size."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)

    others = [(i, j) for i in range(len(first)) for j in range(len(first)) if i != j]
    within = [kernel(first[i], first[j]) + kernel(second[i], second[j]) for i, j in others]
    between = [kernel(x, y) for x in first for y in second]
    return float(np.mean(within) - 2 * np.mean(between))


def test_distance_by_hand() -> None:
    # k(0, 1) = 1 and k(1, 2) = 27 within; 1, 1, 8 and 27 between: 1 + 27 - 2 * 37 / 4
    result = kernel_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]))
    assert result.mean == pytest.approx(9.5)


def test_distance_of_whole_sets_matches_pairwise_sums_and_the_libraries() -> None:
    first, second = two_sets()
    result = kernel_distance(first[:240], second)
    assert result.mean == pytest.approx(WHOLE_240, rel=1e-12)
    assert (result.sd, result.num_subsets, result.subset_size) == (0.0, 1, 240)
    few = kernel_distance(first[:20], second[:20])
    assert few.mean == pytest.approx(naive_distance(first[:20].double().numpy(), second[:20].double().numpy()))


def test_subsets_spread_as_those_of_torch_fidelity() -> None:
    result = kernel_distance(*two_sets(), num_subsets=300, subset_size=200)
    assert result.mean == pytest.approx(MEAN_200, abs=4 * np.sqrt(2) * SD_200 / np.sqrt(300))
    assert result.sd == pytest.approx(SD_200, rel=0.15)


def test_seed_determines_the_subsets() -> None:
    sets = two_sets()
    first, again, other = (kernel_distance(*sets, num_subsets=5, subset_size=50, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.mean != other.mean
    assert first.sd > 0


def test_two_halves_of_one_set_have_mean_distance_zero_at_any_size() -> None:
    generator = torch.Generator().manual_seed(1)
    for num in (10, 100):
        distances = [
            kernel_distance(*torch.randn(2, num, 8, generator=generator).unbind(), subset_size=num).mean
            for _ in range(60)
        ]
        assert abs(np.mean(distances)) < 4 * np.std(distances) / np.sqrt(60)
        assert min(distances) < 0


def test_distance_of_whole_sets_ignores_order_and_is_symmetric() -> None:
    first, second = two_sets()
    first = first[:240]
    shuffled = first[torch.randperm(240, generator=torch.Generator().manual_seed(2))]
    expected = kernel_distance(first, second).mean
    assert kernel_distance(shuffled, second).mean == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(second, first).mean == pytest.approx(expected, rel=1e-12)


def test_subsets_are_no_larger_than_the_smaller_set() -> None:
    result = kernel_distance(*two_sets(), num_subsets=3)
    assert (result.num_subsets, result.subset_size) == (3, 240)
    assert result.sd > 0  # 240 of the first set's 300 images


def test_nan_feature_makes_the_distance_nan() -> None:
    first, second = two_sets()
    first[7, 3] = torch.nan
    assert np.isnan(kernel_distance(first[:240], second).mean)


@pytest.mark.parametrize(
    ("shapes", "settings", "message"),
    [
        (((1, 4), (9, 4)), {}, "at least 2"),
        (((9, 4), (0, 4)), {}, "9 and 0 images"),
        (((9, 4), (9, 4)), {"subset_size": 1}, "subsets of 1 images"),
        (((9, 4), (9, 5)), {}, "4 and 5 features"),
        (((9, 4), (9, 4)), {"num_subsets": 0}, "num_subsets=0"),
    ],
)
def test_sets_without_a_distance_are_refused(
    shapes: tuple[tuple[int, int], tuple[int, int]], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_distance(*map(torch.zeros, shapes), **settings)
