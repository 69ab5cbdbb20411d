"""Tests of emixer.evaluation.fid."""

import numpy as np
import pytest
import scipy.linalg
import torch

from emixer.evaluation.fid import FeatureStatistics, frechet_distance


def features(num: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=generator)
    return torch.randn(num, dim, generator=generator) @ mix + seed


def test_one_dimensional_distance_is_that_of_two_normal_distributions() -> None:
    # means 1 and 4, standard deviations sqrt(2) and sqrt(8): (4 - 1)^2 + (sqrt 8 - sqrt 2)^2 = 9 + 2
    first = FeatureStatistics.of(torch.tensor([[0.0], [2.0]]))
    second = FeatureStatistics.of(torch.tensor([[2.0], [6.0]]))
    assert frechet_distance(first, second) == pytest.approx(11.0)


def test_diagonal_covariances_add_up_over_the_dimensions() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    first = FeatureStatistics(11, torch.zeros(3).double(), eye * torch.tensor([1.0, 4.0, 9.0]) * 10)
    second = FeatureStatistics(21, torch.tensor([0.0, 1.0, 2.0]).double(), eye * torch.tensor([4.0, 4.0, 0.0]) * 20)
    # 1 + 4 from the means; (1 - 2)^2 + 0 + 3^2 from the spreads
    assert frechet_distance(first, second) == pytest.approx(15.0)


def test_distance_agrees_with_the_matrix_square_root_of_scipy() -> None:
    x, y = features(400, 16, seed=1), features(300, 16, seed=2)
    s1, s2 = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    expected = float(((x.mean(0) - y.mean(0)) ** 2).sum()) + np.trace(s1 + s2 - 2 * root.real)
    assert frechet_distance(FeatureStatistics.of(x), FeatureStatistics.of(y)) == pytest.approx(expected, rel=1e-5)


def test_statistics_added_by_batch_are_those_of_the_whole() -> None:
    x = features(100, 8, seed=3) + 1e4  # far from the origin, where a sum of squares would cancel
    total = FeatureStatistics.empty(8)
    for part in x.split([1, 30, 69]):
        total = total + FeatureStatistics.of(part)
    assert total.num == 100
    np.testing.assert_allclose(total.mean_F, x.double().mean(0))
    np.testing.assert_allclose(total.covariance(), np.cov(x.double().numpy(), rowvar=False), rtol=1e-8)


def test_same_set_has_distance_zero_even_with_fewer_images_than_dimensions() -> None:
    statistics = FeatureStatistics.of(features(5, 64, seed=4))
    scale = float(statistics.covariance().trace())
    assert frechet_distance(statistics, statistics) == pytest.approx(0.0, abs=1e-6 * scale)


def test_two_halves_of_one_set_are_farther_apart_when_images_are_few() -> None:
    x = torch.randn(4000, 32, generator=torch.Generator().manual_seed(5))
    few = frechet_distance(FeatureStatistics.of(x[:40]), FeatureStatistics.of(x[40:80]))
    many = frechet_distance(FeatureStatistics.of(x[:2000]), FeatureStatistics.of(x[2000:]))
    assert few > 10 * many


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(FeatureStatistics.of(torch.zeros(1, 4)), FeatureStatistics.of(torch.zeros(3, 4)))
