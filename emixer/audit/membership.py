"""Membership inference: an attacker holds a real image and asks whether it was in the training set.

The attacker with the dataset takes an image for a member if the dataset holds a similar one. The attacker with the run
folder uses the image discriminator, which has seen the training images and takes them for real. An area under the ROC
curve of 0.5 is guessing.

Shapes: N members, M others, B images of a batch.
Source: Hayes et al. 2019 (LOGAN: the discriminator as attacker), Chen et al. 2020 (GAN-Leaks: distance to the nearest
generated sample).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from emixer.evaluation.label_faithfulness import roc_auc
from emixer.evaluation.resampling import Figures, intervals

Values = NDArray[np.floating]


def membership_auc(
    member_N: Values, other_M: Values, subjects: Sequence[str], num_resamples: int
) -> tuple[float, tuple[float, float]]:
    """Area under the ROC curve of scores that are high for members, with its 95 % interval.

    subjects: of each image, members first; they are resampled.
    """
    score_N1 = torch.from_numpy(np.concatenate([member_N, other_M]))[:, None]
    is_member_N1 = (torch.arange(len(score_N1)) < len(member_N))[:, None]

    def measure(rows: NDArray[np.int64]) -> Figures:
        area_Y = roc_auc(score_N1[rows], is_member_N1[rows])
        return {"auc": float(area_Y)}

    found = intervals(measure, subjects, num_resamples)
    value = measure(np.arange(len(score_N1)))["auc"]
    return value, found.get("auc", (0.0, 1.0))
