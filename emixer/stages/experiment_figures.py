"""`emixer experiment figures`: the paper's figures 8 to 12, real samples beside synthetic ones of the same labels.

Real samples are of the test split, whose films no generator has seen. Synthetic ones are the first of the dataset with
the labels of the real one: nothing is chosen by its looks.

Shapes: N samples, Y labels, H = W side [px].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emixer import files
from emixer.data.collection import identify
from emixer.experiments.figures import Sample, SamplePair, draw_films, draw_pairs
from emixer.experiments.tables import NAMES
from emixer.gallery.real_pairs import RealPairs, read_real_pairs
from emixer.generation.stored_pairs import StoredPairs, read_stored_pairs
from emixer.stages.experiment_cell import Generated
from emixer.stages.experiment_plan import Experiment

PAIRS_A_FIGURE, GRID_COLUMNS, GRID_FILMS, MORE_FILMS = 4, 6, 24, 48
_CANDIDATES = 4_000
"""Generated pairs among which those of the same labels are looked for."""


@dataclass(frozen=True)
class FiguresResult:
    """Pictures that were written."""

    paths: tuple[Path, ...]
    title: str

    def __str__(self) -> str:
        return "\n".join([self.title, "Written:", *(f"  {path}" for path in self.paths)])


def draw_figures(experiment: Experiment, generated: Generated) -> FiguresResult:
    """Writes figure8 to figure12 as PNG and PDF into `figures`."""
    name = experiment.table.generators[0]
    uncertain_is = 1 if experiment.config.data.uncertain == "ones" else 0
    real = read_real_pairs(experiment.shards, "test", GRID_FILMS, uncertain_is)
    stored = read_stored_pairs(generated.folder, generated.files, experiment.shards.info.label_names, _CANDIDATES)
    rows_N = alike(real.labels_NY, stored.labels_NY)
    sources = ", ".join(identify(experiment.shards).sources)
    method, px = NAMES[name], experiment.shards.info.side_px
    beside = f"Real test films of {sources} beside films of {method} with the same labels, {px} px"
    pairs = _pairs(real, stored, rows_N, experiment.shards.info.label_names)
    more = np.setdiff1d(np.arange(len(stored)), rows_N)[:MORE_FILMS]
    pictures = {
        "figure8": draw_pairs(pairs[:PAIRS_A_FIGURE], beside),
        "figure9": draw_pairs(pairs[PAIRS_A_FIGURE : 2 * PAIRS_A_FIGURE], beside),
        "figure10": draw_films(real.images_NHW, f"Real test films of {sources}, {px} px", GRID_COLUMNS),
        "figure11": draw_films(stored.images_NHW[rows_N], f"{method}, labels of figure 10 in its order", GRID_COLUMNS),
        "figure12": draw_films(stored.images_NHW[more], f"{method}, as they come, {px} px", GRID_COLUMNS + 2),
    }
    folder, paths = experiment.out / "figures", []
    for figure, kinds in pictures.items():
        for kind, content in kinds.items():
            files.write_bytes(folder / f"{figure}.{kind}", content)
            paths.append(folder / f"{figure}.{kind}")
    return FiguresResult(tuple(paths), f"{beside}. They hold real films: share them as their collection allows.")


def alike(wanted_NY: NDArray[np.uint8], offered_MY: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Of each wanted vector of labels the first row offered, not taken before, that differs least from it (N,)."""
    taken_M = np.zeros(len(offered_MY), bool)
    rows = []
    for wanted_Y in wanted_NY:
        differing_M = (offered_MY != wanted_Y).sum(1) + taken_M * wanted_NY.shape[1]
        rows.append(int(differing_M.argmin()))
        taken_M[rows[-1]] = True
    return np.array(rows, np.int64)


def _pairs(
    real: RealPairs, stored: StoredPairs, rows_N: NDArray[np.int64], label_names: Sequence[str]
) -> list[SamplePair]:
    """For two figures: real films with reports first, those of the most labels before others."""
    order = sorted(range(len(rows_N)), key=lambda n: (not real.reports[n], -int(real.labels_NY[n].sum()), n))
    return [
        SamplePair(
            tuple(compress(label_names, real.labels_NY[n])), Sample(real.images_NHW[n], real.reports[n]),
            Sample(stored.images_NHW[rows_N[n]], stored.reports[rows_N[n]]),
        )
        for n in order[:: max(1, len(order) // (2 * PAIRS_A_FIGURE))]
    ]  # fmt: skip
