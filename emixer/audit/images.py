"""From distances between images to flagged images, overall and by label, and the figures of the audit.

Shapes: N generated images, M held-out ones, G, K groups, Y labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emixer.audit.balance import Balance, Groups, balance
from emixer.audit.control import Nearness, Verdicts, nearer_than_control, ranks_below
from emixer.audit.matching import SPACES, Matches

MIN_ROWS_PER_LABEL = 20
_QUANTILES = {"percent_1": 0.01, "percent_5": 0.05, "median": 0.5}


@dataclass(frozen=True)
class Distances:
    """Nearest training and nearest held-out images of generated and of held-out ones."""

    generated_to_train: Matches
    generated_to_held_out: Matches
    held_out_to_train: Matches
    held_out_to_held_out: Matches

    def of(self, space: str) -> tuple[Nearness, Nearness]:
        """Distances of the generated images and of the control in that space."""
        return (
            Nearness(self.generated_to_train.distance(space), self.generated_to_held_out.distance(space)),
            Nearness(self.held_out_to_train.distance(space), self.held_out_to_held_out.distance(space)),
        )


@dataclass(frozen=True)
class FlaggedImages:
    """Generated images nearer to training images than normal, in each space and in any."""

    spaces: Mapping[str, Verdicts]
    closeness_N: NDArray[np.floating]
    """Distance to the nearest training image over the flagging threshold, in the space where that is smaller."""
    closest_space_N: NDArray[np.int64]
    """Index of that space."""

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Images flagged in any space."""
        return any_of([found.flagged for found in self.spaces.values()])

    @property
    def copies(self) -> NDArray[np.bool_]:
        """Images that are copies in any space."""
        return any_of([found.copies for found in self.spaces.values()])


def find_near_images(distances: Distances, level: float) -> FlaggedImages:
    """Find near images in each space. level: share of the control that each space would flag."""
    spaces = {space: nearer_than_control(*distances.of(space), level) for space in SPACES}
    relative = np.stack([
        distances.generated_to_train.distance(space) / max(spaces[space].threshold, 1e-9) for space in SPACES
    ])  # fmt: skip
    return FlaggedImages(spaces, relative.min(0), relative.argmin(0))


def image_figures(
    distances: Distances, findings: FlaggedImages, groups: Groups | None, level: float
) -> dict[str, dict[str, Any]]:
    """Figures of the audit by space."""
    figures: dict[str, dict[str, Any]] = {}
    for space in SPACES:
        images, control = distances.of(space)
        found = findings.spaces[space]
        figures[space] = {
            "threshold": found.threshold,
            "nearer_than_control": share_of(ranks_below(images.to_train, control.to_train) <= level),
            "flagged": share_of(found.flagged),
            "copies": int(found.copies.sum()),
            "to_train": {
                "generated": _quantiles(images.to_train), "held_out": _quantiles(control.to_train),
            },
            "to_held_out": {
                "generated": _quantiles(images.to_held_out), "held_out": _quantiles(control.to_held_out),
            },
        }  # fmt: skip
        balanced = _balance(distances, groups, space)
        if balanced is not None and groups is not None:
            figures[space]["nearer_to_train"] = {
                "share": balanced.share, "interval": list(balanced.interval), "images_a_group": groups.size,
                "groups": groups.num_train,
            }  # fmt: skip
    return figures


def any_of(parts: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Elementwise or."""
    found: NDArray[np.bool_] = np.logical_or.reduce(list(parts))
    return found


def by_label(flagged_N: NDArray[np.bool_], labels_NY: NDArray[np.bool_], names: Sequence[str]) -> dict[str, Any]:
    """Share of flagged images by label, for labels with at least MIN_ROWS_PER_LABEL images."""
    return {
        name: share_of(flagged_N[labels_NY[:, y]])
        for y, name in enumerate(names)
        if labels_NY[:, y].sum() >= MIN_ROWS_PER_LABEL
    }


def share_of(is_so: NDArray[np.bool_]) -> dict[str, Any]:
    """Count, total, and share with its 95 % interval (Wilson)."""
    from scipy.stats import binomtest  # a second to import, in every worker that judges images and needs no interval

    count, num = int(is_so.sum()), len(is_so)
    between = binomtest(count, num).proportion_ci(method="wilson")
    return {"count": count, "of": num, "share": count / num, "interval": [float(between.low), float(between.high)]}


def duplicates(generated: Matches, real: Matches, level: float) -> dict[str, Any]:
    """Images with a near-duplicate in their own set: nearer than a share `level` of equally many real ones."""
    limit = float(np.quantile(real.pixel_distance, level, method="lower"))
    return share_of(generated.pixel_distance < limit) | {"expected": level, "threshold": limit}


def _balance(distances: Distances, groups: Groups | None, space: str) -> Balance | None:
    if groups is None:
        return None
    return balance(distances.generated_to_train.groups(space), distances.generated_to_held_out.groups(space))


def _quantiles(values: NDArray[np.floating]) -> dict[str, float]:
    return {name: float(np.quantile(values, share)) for name, share in _QUANTILES.items()} | {
        "least": float(values.min())
    }
