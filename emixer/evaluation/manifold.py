"""Precision, recall, density and coverage of generated images against real ones, by nearest-neighbour balls.

An image's ball reaches to its k-th nearest neighbour in its own set. Precision: share of generated images in the ball
of any real image. Recall: share of real images in the ball of any generated image. Density: number of balls of real
images that a generated image is in, divided by k: 1 on average for two sets of one distribution, with no upper bound.
Coverage: share of real images with a generated image in their ball.

An image on the surface counts as inside for precision and recall and as outside for density and coverage, as in their
authors' code. This matters only for copied images: generated images that repeat the real ones get density 1.

Shapes: N real images, M generated images, C images of a chunk, F features.
Source: Kynkäänniemi et al. 2019 (precision, recall); Naeem et al. 2020 (density, coverage).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDING = 1e-10
"""Squared distances that differ by at most this share of the terms they are summed from are ties. Far above the
rounding of float64, far below that of the float32 features."""


@dataclass(frozen=True)
class ManifoldScores:
    """Precision, recall and coverage in [0, 1], density at least 0; higher is better."""

    precision: float
    recall: float
    density: float
    coverage: float
    num_neighbours: int


@torch.no_grad()
def manifold_scores(
    real_NF: Tensor, generated_MF: Tensor, num_neighbours: int = 5, *, chunk_images: int = 1000
) -> ManifoldScores:
    """Scores of generated images, in float64, on the device of the real features.

    Compare them only at the same numbers of images and neighbours: balls shrink as images are added. At most
    `chunk_images` rows of distances are held at a time; the result does not depend on it. Raises ValueError for fewer
    than num_neighbours + 1 images on a side, different numbers of features, or features that are not finite.
    """
    generated_MF = generated_MF.to(real_NF.device)
    _check(real_NF, generated_MF, num_neighbours)
    middle_F = real_NF.double().mean(0)  # centring keeps distances and reduces rounding errors
    real_NF, generated_MF = real_NF.double() - middle_F, generated_MF.double() - middle_F
    real_surface_N, real_slack_N = _balls(real_NF, num_neighbours, chunk_images)
    surface_M, slack_M = _balls(generated_MF, num_neighbours, chunk_images)

    covered_N = torch.zeros(len(real_NF), dtype=torch.bool, device=real_NF.device)
    recalled_N = torch.zeros_like(covered_N)
    num_precise, num_inside = 0, 0
    for rows in torch.arange(len(generated_MF), device=real_NF.device).split(chunk_images):
        distance_CN = _squared_distances(generated_MF[rows], real_NF)
        num_precise += int((distance_CN <= real_surface_N + real_slack_N).any(1).sum())
        recalled_N |= (distance_CN <= (surface_M + slack_M)[rows, None]).any(0)
        inside_CN = distance_CN < real_surface_N - real_slack_N
        num_inside += int(inside_CN.sum())
        covered_N |= inside_CN.any(0)
    return ManifoldScores(
        precision=num_precise / len(generated_MF),
        recall=int(recalled_N.sum()) / len(real_NF),
        density=num_inside / (num_neighbours * len(generated_MF)),
        coverage=int(covered_N.sum()) / len(real_NF),
        num_neighbours=num_neighbours,
    )


def _check(real_NF: Tensor, generated_MF: Tensor, num_neighbours: int) -> None:
    if num_neighbours < 1:
        raise ValueError(f"num_neighbours={num_neighbours} gives no balls. Give at least 1.")
    if real_NF.shape[1:] != generated_MF.shape[1:]:
        raise ValueError(f"The sets have {real_NF.shape[1]} and {generated_MF.shape[1]} features. Give both the same.")
    for side, features in (("real", real_NF), ("generated", generated_MF)):
        if len(features) <= num_neighbours:
            raise ValueError(
                f"{len(features)} {side} images have no {num_neighbours}-th nearest neighbour. "
                f"Give at least {num_neighbours + 1}, or use fewer neighbours."
            )
        # NaN is in no ball, which would look like a bad generator
        if not torch.isfinite(features).all():
            raise ValueError(f"Features of {side} images are not finite. Check the images and the network.")


def _balls(features_NF: Tensor, num_neighbours: int, chunk_images: int) -> tuple[Tensor, Tensor]:
    """Squared distance (N,) from each image to its k-th nearest other image, and the tolerance for rounding."""
    surfaces = []
    for rows in torch.arange(len(features_NF), device=features_NF.device).split(chunk_images):
        distance_CN = _squared_distances(features_NF[rows], features_NF)
        distance_CN[torch.arange(len(rows), device=rows.device), rows] = torch.inf  # an image is not its own neighbour
        surfaces.append(distance_CN.topk(num_neighbours, largest=False).values[:, -1])
    surface_N = torch.cat(surfaces)
    return surface_N, _ROUNDING * (features_NF.square().sum(1) + surface_N)


def _squared_distances(first_CF: Tensor, second_NF: Tensor) -> Tensor:
    length_C, length_N = first_CF.square().sum(1), second_NF.square().sum(1)
    distance_CN: Tensor = torch.addmm(length_N, first_CF, second_NF.T, alpha=-2).add_(length_C[:, None])
    return distance_CN
