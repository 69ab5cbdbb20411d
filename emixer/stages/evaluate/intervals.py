"""Figures of `emixer evaluate` with intervals."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from emixer.evaluation.pair_metrics import over_common_labels
from emixer.evaluation.resampling import Figures, Measure, intervals

Spread = dict[str, tuple[float, float]]
Key = TypeVar("Key", bound=Hashable)


def with_intervals(
    measure: Callable[[NDArray[np.int64]], Figures], subjects: Sequence[str], resamples: int
) -> tuple[Figures, Spread]:
    """Figures over all rows, and their intervals by resampling subjects.

    Runs on one thread: on hundreds of small sums, threads would only wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figures = measure(np.arange(len(subjects)))
        return figures, intervals(measure, subjects, resamples)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Measured:
    """What is measured on one side. maker: as in `over_common_labels`. subjects: of its rows."""

    maker: Callable[..., Measure]
    subjects: Sequence[str]


@dataclass
class SideBySide(Generic[Key]):
    """Figures of several sides with their intervals, and the labels that each figure is a mean over."""

    figures: dict[Key, Figures]
    intervals: dict[Key, Spread]
    means_over: dict[str, list[str]]

    def in_json(self) -> dict[Any, Any]:
        """Figures of each side under its name, `intervals` and `means_over`."""
        return {**self.figures, "intervals": self.intervals, "means_over": self.means_over}


def side_by_side(kinds: Mapping[str, Mapping[Key, Measured]], resamples: int) -> SideBySide[Key]:
    """Measure each side. kinds: by the name of a mean, what it is measured on."""
    found: SideBySide[Key] = SideBySide({}, {}, {})
    for name, sides in kinds.items():
        measures, found.means_over[name] = over_common_labels({side: of.maker for side, of in sides.items()})
        for side, measure in measures.items():
            figures, spread = with_intervals(measure, sides[side].subjects, resamples)
            found.figures.setdefault(side, {}).update(figures)
            found.intervals.setdefault(side, {}).update(spread)
    return found
