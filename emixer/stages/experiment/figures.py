"""`emixer experiment figures`: the paper's figures 8 to 12, real samples beside synthetic ones.

Real samples are from the test split, whose images no generator has seen. A synthetic sample is the first of the dataset
with the labels of the real one, or the nearest available, and is shown with its own: nothing is selected by appearance.

Shapes: N samples, Y labels, H = W side [px].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emixer import files
from emixer.data.collection import identify
from emixer.data.labels import LabelPolicy
from emixer.experiments.figures import Sample, SamplePair, draw_images, draw_pairs
from emixer.experiments.tables import NAMES
from emixer.gallery.real_examples import RealExamples, read_real_examples
from emixer.generation.manifest import read_finished_manifest
from emixer.generation.stored_pairs import StoredPairs, read_stored_labels, read_stored_pairs
from emixer.stages.experiment.cell import Generated
from emixer.stages.experiment.plan import Experiment
from emixer.stages.result import StageResult

PAIRS_A_FIGURE, GRID_COLUMNS, GRID_IMAGES, MORE_IMAGES = 4, 6, 24, 48


@dataclass(frozen=True)
class FiguresResult(StageResult):
    """Figures that were written."""

    paths: tuple[Path, ...]
    title: str

    @property
    def outputs(self) -> Mapping[str, Sequence[Path]]:
        return {"figures": self.paths}

    @property
    def figures(self) -> Mapping[str, str]:
        return {"title": self.title}

    def __str__(self) -> str:
        return "\n".join([self.title, "Written:", *(f"  {path}" for path in self.paths)])


def draw_figures(experiment: Experiment, generated: Generated) -> FiguresResult:
    """Write figure8 to figure12 as PNG and PDF to `figures`. Raises ShardError when no test image has labels."""
    name = experiment.generators[0]
    policy = LabelPolicy(experiment.config.data.uncertain, "zeros")
    real = read_real_examples(experiment.shards, "test", GRID_IMAGES, policy, "Ingest with label columns.")
    every_label = experiment.shards.info.label_names
    known = read_finished_manifest(generated.folder)["label_counts"]  # a given run may know fewer
    names = [label for label in every_label if label in known]
    wanted_NY = real.labels_NY[:, [every_label.index(label) for label in names]]
    offered_MY = read_stored_labels(generated.folder, generated.files, names)
    rows_N = alike(wanted_NY, offered_MY)
    others = np.setdiff1d(np.arange(min(len(offered_MY), len(rows_N) + MORE_IMAGES)), rows_N)[:MORE_IMAGES]
    others = others if len(others) else rows_N  # a very small dataset is shown whole in figure 11
    stored = read_stored_pairs(generated.folder, generated.files, names, rows_N.tolist())
    more = read_stored_pairs(generated.folder, generated.files, names, others.tolist())
    exact = int((stored.labels_NY == wanted_NY).all(1).sum())
    sources = ", ".join(identify(experiment.shards).sources)
    method, px = NAMES[name], experiment.shards.info.side_px
    beside = f"Real test images of {sources} beside images of {method}, {px} px"
    pairs = _pairs(real, stored, every_label, names)
    unlike = "" if exact == len(rows_N) else f" ({exact} of {len(rows_N)} exact, else the nearest)"
    pictures = {
        "figure8": draw_pairs(pairs[:PAIRS_A_FIGURE], beside),
        "figure9": draw_pairs(pairs[PAIRS_A_FIGURE : 2 * PAIRS_A_FIGURE], beside),
        "figure10": draw_images(real.images_NHW, f"Real test images of {sources}, {px} px", GRID_COLUMNS),
        "figure11": draw_images(stored.images_NHW, f"{method}, same labels as figure 10{unlike}", GRID_COLUMNS),
        "figure12": draw_images(more.images_NHW, f"{method}, uncurated, {px} px", GRID_COLUMNS + 2),
    }
    folder, paths = experiment.out / "figures", []
    for figure, kinds in pictures.items():
        for kind, content in kinds.items():
            files.write_bytes(folder / f"{figure}.{kind}", content)
            paths.append(folder / f"{figure}.{kind}")
    return FiguresResult(tuple(paths), f"{beside}. They contain real images: share only as their collection allows.")


def alike(wanted_NY: NDArray[np.uint8], offered_MY: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each wanted label vector, the first offered row, not taken before, that differs least from it (N,)."""
    taken_M = np.zeros(len(offered_MY), bool)
    rows = []
    for wanted_Y in wanted_NY:
        differing_M = (offered_MY != wanted_Y).sum(1) + taken_M * wanted_NY.shape[1]
        rows.append(int(differing_M.argmin()))
        taken_M[rows[-1]] = True
    return np.array(rows, np.int64)


def _pairs(
    real: RealExamples, stored: StoredPairs, names_of_real: Sequence[str], names_of_stored: Sequence[str]
) -> list[SamplePair]:
    """Pairs for two figures, evenly spaced from many labels to none; real images without a report come last."""
    order = sorted(range(len(stored)), key=lambda n: (not real.reports[n], -int(real.labels_NY[n].sum()), n))
    return [
        SamplePair(
            Sample(real.images_NHW[n], real.reports[n], tuple(compress(names_of_real, real.labels_NY[n]))),
            Sample(stored.images_NHW[n], stored.reports[n], tuple(compress(names_of_stored, stored.labels_NY[n]))),
        )
        for n in order[:: max(1, len(order) // (2 * PAIRS_A_FIGURE))]
    ]  # fmt: skip
