"""Metrics of generated against real images on the features of one network: Fréchet and kernel distance, precision,
recall, density and coverage.

Shapes: N images, F features, Y labels.
Source: EMIXER §6.3.3 (FID); Bińkowski et al. 2018, Kynkäänniemi et al. 2019, Naeem et al. 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.evaluation.kernel_distance import kernel_distance
from emixer.evaluation.manifold import manifold_scores
from emixer.evaluation.resampling import Figures
from emixer.evaluation.spread import spread_rows

MIN_IMAGES_A_LABEL = 20
"""Minimum number of generated, held-out and train images with a label for its own Fréchet distance."""


def image_figures(real_NF: Tensor, generated_NF: Tensor, neighbours: int) -> Figures:
    """fid, kid, kid_sd (over subsets, if there are several), precision, recall, density, coverage.

    Compare them only at equal numbers of images: the Fréchet distance falls with the number. Raises ValueError for
    fewer than neighbours + 1 images on a side.
    """
    kernel = kernel_distance(real_NF, generated_NF)
    scores = manifold_scores(real_NF, generated_NF, neighbours)
    return {
        "fid": frechet_distance(FeatureStatistics.of(real_NF), FeatureStatistics.of(generated_NF)),
        "kid": kernel.mean,
        **({"kid_sd": kernel.sd} if kernel.num_subsets > 1 else {}),
        "precision": scores.precision,
        "recall": scores.recall,
        "density": scores.density,
        "coverage": scores.coverage,
    }


@dataclass(frozen=True)
class LabelledImages:
    """Features of images with their labels, 1 present."""

    features_NF: Tensor
    labels_NY: Tensor

    def of(self, y: int) -> Tensor:
        """Features of the images with that label."""
        return self.features_NF[self.labels_NY[:, y] == 1]


def label_distances(
    real: LabelledImages, generated: LabelledImages, sample: LabelledImages, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """For each label with enough images in all three: `fid` between real and generated ones, `real_fid` between real
    ones and equally many of `sample`, other real images, and `images`, the number of each."""
    found = {}
    for y, name in enumerate(names):
        sides = [images.of(y) for images in (real, generated, sample)]
        num = min(map(len, sides))
        if num >= MIN_IMAGES_A_LABEL:
            of_real, *others = (
                FeatureStatistics.of(images_NF[spread_rows(len(images_NF), num)]) for images_NF in sides
            )
            fid, real_fid = (frechet_distance(of_real, other) for other in others)
            found[name] = {"fid": fid, "real_fid": real_fid, "images": float(num)}
    return found
