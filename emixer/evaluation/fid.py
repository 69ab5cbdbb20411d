"""Fréchet distance between two sets of features: streaming statistics and the distance itself.

The covariances are estimates: with fewer images than feature dimensions they are singular, and the distance is biased
upwards (two halves of one set are not at distance 0). Compare distances only at the same number of images, and state
it.

Shapes: N images, F features.
Source: EMIXER §6.3.3; Heusel et al. 2017.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureStatistics:
    """Count, mean and scatter of features, in float64. Can be added over batches and workers in any order."""

    num: int
    mean_F: Tensor
    scatter_FF: Tensor
    """Sum of outer products of the deviations from the mean."""

    @classmethod
    def empty(cls, num_features: int, device: torch.device | str = "cpu") -> Self:
        """Statistics of no images."""
        mean_F = torch.zeros(num_features, dtype=torch.float64, device=device)
        return cls(0, mean_F, torch.diag(mean_F))

    @classmethod
    def of(cls, features_NF: Tensor) -> Self:
        """Statistics of one batch, N >= 1."""
        features_NF = features_NF.double()
        mean_F = features_NF.mean(0)
        deviation_NF = features_NF - mean_F
        return cls(len(features_NF), mean_F, deviation_NF.T @ deviation_NF)

    def __add__(self, other: "FeatureStatistics") -> "FeatureStatistics":
        """Statistics of the union of both sets (Chan et al. 1979: no sum of squares, so no cancellation)."""
        num = self.num + other.num
        if num == 0:
            return self
        shift_F = other.mean_F - self.mean_F
        mean_F = self.mean_F + shift_F * (other.num / num)
        between_FF = torch.outer(shift_F, shift_F) * (self.num * other.num / num)
        return FeatureStatistics(num, mean_F, self.scatter_FF + other.scatter_FF + between_FF)

    def covariance(self) -> Tensor:
        """Unbiased covariance (F, F). Raises ValueError for fewer than two images."""
        if self.num < 2:
            raise ValueError(f"The covariance of {self.num} images is not defined. Give at least 2.")
        return self.scatter_FF / (self.num - 1)


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """|mean difference|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), at least 0.

    tr (S1 S2)^(1/2) is computed from the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2), which are real and, up to
    rounding, nonnegative even for singular covariances. Raises ValueError for fewer than two images on a side.
    """
    # on the CPU: many GPUs are slow in double precision, and their solvers may fail on singular matrices
    covariance_1, covariance_2 = first.covariance().cpu(), second.covariance().cpu()
    root_1 = _symmetric_root(covariance_1)
    middle = root_1 @ covariance_2 @ root_1
    overlap = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp_min(0).sqrt().sum()
    shift = (first.mean_F.cpu() - second.mean_F.cpu()).square().sum()
    distance = shift + covariance_1.trace() + covariance_2.trace() - 2 * overlap
    return max(float(distance), 0.0)


def _symmetric_root(covariance_FF: Tensor) -> Tensor:
    values_F, vectors_FF = torch.linalg.eigh(covariance_FF)
    root_FF: Tensor = (vectors_FF * values_F.clamp_min(0).sqrt()) @ vectors_FF.T
    return root_FF
