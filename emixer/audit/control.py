"""What is nearer than normal: held-out images, which no model was trained on, say what normal is.

A distance to the nearest of N images falls with N. So a generated image's distance to the nearest *training* image is
compared with that of held-out images to the very same training images. Its rank among them is a conformal p-value: an
image drawn as held-out ones are has one of at most p with a probability of at most p, whatever the distances are like.

An image may be near to a training image for being an ordinary one, near to everything. So it must also be nearer to
training images than its own distance to held-out ones lets expect, by the same ranks: of the ratio of the two.

Shapes: N images, M images of the control.
Source: Vovk et al. 2005 (conformal prediction); the ratio of distances is ours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
COPY_SHARE = 0.5
"""A copy is nearer than every control image, and this many times nearer than what is flagged."""
_TINY = 1e-9


def ranks_below(values_N: Values, control_M: Values) -> NDArray[np.float64]:
    """Conformal p-values (N,) of being as small: (1 + how many of the control are not above) / (M + 1)."""
    num = np.searchsorted(np.sort(control_M), values_N, side="right")
    return (1 + num) / (len(control_M) + 1)


def ranks_above(values_N: Values, control_M: Values) -> NDArray[np.float64]:
    """Conformal p-values (N,) of being as large."""
    return ranks_below(-np.asarray(values_N), -np.asarray(control_M))


def least_control(level: float) -> int:
    """Images that a control must have for a p-value to reach `level` at all."""
    return int(np.ceil(1 / level)) - 1


@dataclass(frozen=True)
class Nearness:
    """Distances of some images to the nearest training and to the nearest held-out image."""

    to_train: Values
    to_held_out: Values

    @property
    def ratio(self) -> Values:
        """Small where training images are nearer."""
        ratio: Values = (self.to_train + _TINY) / (self.to_held_out + _TINY)
        return ratio


@dataclass(frozen=True)
class Verdicts:
    """Which images are nearer to training images than a share `level` of the control would be."""

    flagged: NDArray[np.bool_]
    copies: NDArray[np.bool_]
    """Those of them that are nearer by far than any control image."""
    threshold: float
    """Distance at which images begin to be flagged, as far as that alone decides."""


def nearer_than_control(images: Nearness, control: Nearness, level: float) -> Verdicts:
    """The control must have at least `least_control(level)` images."""
    by_distance = ranks_below(images.to_train, control.to_train)
    flagged = (by_distance <= level) & (ranks_below(images.ratio, control.ratio) <= level)
    num_flagged = int(level * (len(control.to_train) + 1) + _TINY)  # of the control itself, and one more
    threshold = float(np.sort(control.to_train)[num_flagged - 1])
    beyond = (images.to_train < control.to_train.min()) & (images.to_train <= COPY_SHARE * threshold)
    return Verdicts(flagged, flagged & beyond, threshold)
