"""AUC of each label with an interval, for few images: resampled by subject, since a subject's images are correlated.

Shapes: N images, Y labels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emixer.evaluation.label_faithfulness import roc_auc
from emixer.evaluation.resampling import interval, resampled_rows

MIN_IMAGES = 5
"""Minimum number of positive and of negative images for a label to be measured: an AUC of one image is a coin toss."""

_RESAMPLES = 1000


@dataclass(frozen=True)
class Auc:
    """An AUC with the bounds of its interval."""

    label: str
    auc: float
    low: float
    """NaN, like `high`, where too few subjects decide it for an interval."""
    high: float

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f"{self.low:.3f} - {self.high:.3f}"
        return f"{self.auc:.3f}  {interval:<13}"


@dataclass(frozen=True)
class LabelAuc(Auc):
    """One row of the table, with its numbers of images."""

    present: int
    absent: int


@dataclass(frozen=True)
class AucTable:
    """Labels that could be measured, and their mean with its own interval."""

    rows: tuple[LabelAuc, ...]
    mean: Auc | None
    unmeasured: tuple[str, ...]
    """Labels with fewer than MIN_IMAGES images on either side."""

    def __str__(self) -> str:
        if self.mean is None:
            return "  no label has enough images on both sides"
        width = max(len(row.label) for row in (*self.rows, self.mean))
        lines = [f"  {'label':<{width}}   AUC   95 % interval    present   absent"]
        lines += [
            f"  {row.label:<{width}}  {Auc.__str__(row)}  {row.present:>9,} {row.absent:>8,}" for row in self.rows
        ]
        lines.append(f"  {self.mean.label:<{width}}  {self.mean}".rstrip())
        if self.unmeasured:
            lines.append(f"  fewer than {MIN_IMAGES} images on one side: {', '.join(self.unmeasured)}")
        return "\n".join(lines)


def measurable(labels_NY: Tensor) -> NDArray[np.bool_]:
    """Which labels (Y) have at least MIN_IMAGES images on both sides. labels: 1 present, 0 absent; NaN counts for
    neither."""
    fewer_Y = torch.minimum((labels_NY == 1).sum(0), (labels_NY == 0).sum(0))
    measurable_Y: NDArray[np.bool_] = (fewer_Y >= MIN_IMAGES).cpu().numpy()
    return measurable_Y


def auc_table(
    scores_NY: Tensor, labels_NY: Tensor, subjects_N: Sequence[str], label_names: Sequence[str], seed: int = 0
) -> AucTable:
    """AUC table of scores. labels: 1 present, 0 absent, NaN unknown. Intervals: percentiles over 1000 resamples of the
    subjects."""
    present_Y, absent_Y = (labels_NY == 1).sum(0).tolist(), (labels_NY == 0).sum(0).tolist()
    used = np.flatnonzero(measurable(labels_NY)).tolist()
    unmeasured = tuple(name for y, name in enumerate(label_names) if y not in used)
    if not used:
        return AucTable((), None, unmeasured)
    scores_NY, labels_NY = scores_NY[:, used].cpu(), labels_NY[:, used].cpu()
    auc_Y = roc_auc(scores_NY, labels_NY).numpy()
    resampled_RY = np.stack([
        roc_auc(scores_NY[rows], labels_NY[rows]).numpy()
        for rows in map(torch.from_numpy, resampled_rows(subjects_N, _RESAMPLES, seed))
    ])  # fmt: skip
    low_Y, high_Y = _interval(resampled_RY)
    rows = tuple(
        LabelAuc(label_names[y], float(auc_Y[i]), float(low_Y[i]), float(high_Y[i]), present_Y[y], absent_Y[y])
        for i, y in enumerate(used)
    )
    low, high = _interval(resampled_RY.mean(axis=1, keepdims=True))
    mean = Auc("mean", float(auc_Y.mean()), float(low[0]), float(high[0]))
    return AucTable(rows, mean, unmeasured)


def _interval(resampled_RY: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bounds = [interval(resampled_R) for resampled_R in resampled_RY.T]
    low_Y, high_Y = np.array(bounds).T
    return low_Y, high_Y
