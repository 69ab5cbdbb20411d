"""Generated films beside real ones, by the features of one network: Fréchet and kernel distance, precision, recall,
density and coverage.

Shapes: N films, F features, Y labels.
Source: EMIXER §6.3.3 (FID); Bińkowski et al. 2018, Kynkäänniemi et al. 2019, Naeem et al. 2020.
"""

from collections.abc import Sequence

from torch import Tensor

from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.evaluation.kernel_distance import kernel_distance
from emixer.evaluation.manifold import manifold_scores
from emixer.evaluation.resampling import Figures

MIN_FILMS_A_LABEL = 20
"""A label's own Fréchet distance is given where both sides have at least so many films of it."""


def film_figures(real_NF: Tensor, generated_NF: Tensor, neighbours: int) -> Figures:
    """fid, kid, kid_sd (over subsets, where there are several), precision, recall, density, coverage.

    Compare them only at the same numbers of films: the Fréchet distance falls with them. Raises ValueError for fewer
    than neighbours + 1 films on a side.
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


def label_distances(
    real_NF: Tensor, real_labels_NY: Tensor, generated_NF: Tensor, generated_labels_NY: Tensor, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """For each label with enough films on both sides: fid between those films, and how many of them there are."""
    found = {}
    for y, name in enumerate(names):
        real, generated = real_NF[real_labels_NY[:, y] == 1], generated_NF[generated_labels_NY[:, y] == 1]
        num = min(len(real), len(generated))
        if num >= MIN_FILMS_A_LABEL:
            distance = frechet_distance(FeatureStatistics.of(real[:num]), FeatureStatistics.of(generated[:num]))
            found[name] = {"fid": distance, "films": float(num)}
    return found
