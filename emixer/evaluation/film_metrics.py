"""Generated films beside real ones, by the features of one network: Fréchet and kernel distance, precision, recall,
density and coverage.

Shapes: N films, F features, Y labels.
Source: EMIXER §6.3.3 (FID); Bińkowski et al. 2018, Kynkäänniemi et al. 2019, Naeem et al. 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.evaluation.kernel_distance import kernel_distance
from emixer.evaluation.manifold import manifold_scores
from emixer.evaluation.resampling import Figures

MIN_FILMS_A_LABEL = 20
"""A label's own Fréchet distance is given where generated, held-out and train films have at least so many of it."""


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


@dataclass(frozen=True)
class LabelledFilms:
    """Features of films with their labels, 1 present."""

    features_NF: Tensor
    labels_NY: Tensor

    def of(self, y: int) -> Tensor:
        """Features of the films with that label."""
        return self.features_NF[self.labels_NY[:, y] == 1]


def label_distances(
    real: LabelledFilms, generated: LabelledFilms, sample: LabelledFilms, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """For each label with enough films in all three: `fid` of the generated ones from the real ones, `real_fid` of as
    many of `sample`, other real ones, and `films`, how many of each."""
    found = {}
    for y, name in enumerate(names):
        sides = [films.of(y) for films in (real, generated, sample)]
        num = min(map(len, sides))
        if num >= MIN_FILMS_A_LABEL:
            of_real, *others = (FeatureStatistics.of(films_NF[:num]) for films_NF in sides)
            fid, real_fid = (frechet_distance(of_real, other) for other in others)
            found[name] = {"fid": fid, "real_fid": real_fid, "films": float(num)}
    return found
