"""Kernel distance (KID) between two sets of features: the squared maximum mean discrepancy under a cubic kernel.

Unlike the Fréchet distance it is unbiased, even for few images: two halves of one set are at distance 0 on average, so
distances can be slightly negative, and distances at different numbers of images can be compared.

Shapes: N images of the first set, M of the second, S of a subset of either, F features.
Source: Bińkowski et al. 2018 (Demystifying MMD GANs), §4; Gretton et al. 2012, lemma 6 (the unbiased estimate).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation (divided by n, not n - 1) of the distance over subsets.

    `sd` is the spread of single subsets, not the error of `mean`. It is 0 if one subset holds all images.
    """

    mean: float
    sd: float
    num_subsets: int
    subset_size: int
    """Images of each set in a subset."""


def kernel_distance(
    first_NF: Tensor, second_MF: Tensor, *, num_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Kernel distance over random subsets, each drawn without replacement from each set; in float64.

    A subset is no larger than the smaller set; if it holds both sets whole, only one is used. Runs on the device of the
    features; the same seed draws the same subsets on every device. Raises ValueError for sets with different numbers of
    features, fewer than two images on a side or in a subset, and no subsets.
    """
    subset_size = min(subset_size, len(first_NF), len(second_MF))
    if first_NF.shape[1:] != second_MF.shape[1:]:
        raise ValueError(f"The sets have {first_NF.shape[1]} and {second_MF.shape[1]} features. Give both the same.")
    if subset_size < 2:
        raise ValueError(
            f"The kernel distance of subsets of {subset_size} images is not defined ({len(first_NF)} and "
            f"{len(second_MF)} images given). Give at least 2 per side and per subset."
        )
    if num_subsets < 1:
        raise ValueError(f"num_subsets={num_subsets} gives no distance. Give at least 1.")
    if subset_size == len(first_NF) == len(second_MF):
        num_subsets = 1
    generator = torch.Generator().manual_seed(seed)
    distances = [
        _squared_discrepancy(_drawn(first_NF, subset_size, generator), _drawn(second_MF, subset_size, generator))
        for _ in range(num_subsets)
    ]
    distance_R = torch.stack(distances)
    return KernelDistance(float(distance_R.mean()), float(distance_R.std(correction=0)), num_subsets, subset_size)


def _drawn(features_NF: Tensor, size: int, generator: torch.Generator) -> Tensor:
    rows_S = torch.randperm(len(features_NF), generator=generator)[:size]
    return features_NF[rows_S.to(features_NF.device)].double()


def _squared_discrepancy(first_SF: Tensor, second_SF: Tensor) -> Tensor:
    """Unbiased estimate, (): an image is paired with all others of its set, but not itself, and with all of the other
    set."""
    size = len(first_SF)
    within = sum(kernel.sum() - kernel.trace() for kernel in (_kernel(x_SF, x_SF) for x_SF in (first_SF, second_SF)))
    between = _kernel(first_SF, second_SF).sum()
    return within / (size * (size - 1)) - 2 * between / size**2


def _kernel(first_SF: Tensor, second_SF: Tensor) -> Tensor:
    return (first_SF @ second_SF.T / first_SF.shape[1] + 1) ** 3
