"""Figures of `emixer evaluate` with intervals."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from emixer.evaluation.resampling import Figures, intervals

Spread = dict[str, tuple[float, float]]


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
