"""Images that are nearer to training images than normal; held-out images, never trained on, define what is normal.

A distance to the nearest of N images falls with N. So a generated image's distance to the nearest *training* image is
compared with that of held-out images to the very same training images. Its rank among them is a conformal p-value: for
an image drawn like the held-out ones it is at most p with probability at most p, whatever the distances are like.

An ordinary image may be near to a training image because it is near to everything. So an image must also be nearer to
training images than its distance to held-out ones suggests, by the rank of the ratio of the two.

Shapes: N images, M images of the control.
Source: Vovk et al. 2005 (conformal prediction); the ratio of distances is ours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
COPY_SHARE = 0.5
"""A copy is nearer than every control image, and at most this share of the flagging distance away."""
_TINY = 1e-9


def ranks_below(values_N: Values, control_M: Values) -> NDArray[np.float64]:
    """Conformal p-values (N,) for small values: (1 + number of control values not above) / (M + 1)."""
    num = np.searchsorted(np.sort(control_M), values_N, side="right")
    return (1 + num) / (len(control_M) + 1)


def ranks_above(values_N: Values, control_M: Values) -> NDArray[np.float64]:
    """Conformal p-values (N,) for large values."""
    return ranks_below(-np.asarray(values_N), -np.asarray(control_M))


def min_control(level: float) -> int:
    """Minimum number of control images for a p-value to reach `level`."""
    return int(np.ceil(1 / level)) - 1


def num_flagged(level: float, num_control: int) -> int:
    """How many of the control and the image itself are flagged at `level`."""
    return int(level * (num_control + 1) + _TINY)


@dataclass(frozen=True)
class Nearness:
    """Distances of images to the nearest training and to the nearest held-out image."""

    to_train: Values
    to_held_out: Values

    @property
    def ratio(self) -> Values:
        """Ratio of the two distances; small where training images are nearer."""
        ratio: Values = (self.to_train + _TINY) / (self.to_held_out + _TINY)
        return ratio


@dataclass(frozen=True)
class Verdicts:
    """Images nearer to training images than all but a share `level` of the control."""

    flagged: NDArray[np.bool_]
    copies: NDArray[np.bool_]
    """Flagged images that are much nearer than any control image."""
    threshold: float
    """Distance at which flagging begins, as far as the distance alone decides."""


def nearer_than_control(images: Nearness, control: Nearness, level: float) -> Verdicts:
    """Flag images by distance and ratio. The control must have at least `min_control(level)` images."""
    by_distance = ranks_below(images.to_train, control.to_train)
    flagged = (by_distance <= level) & (ranks_below(images.ratio, control.ratio) <= level)
    threshold = float(np.sort(control.to_train)[num_flagged(level, len(control.to_train)) - 1])
    beyond = (images.to_train < control.to_train.min()) & (images.to_train <= COPY_SHARE * threshold)
    return Verdicts(flagged, flagged & beyond, threshold)
