"""Pairs that a screen flags are withheld, and others drawn in their place.

Row i holds the first of its draws that passes. Draw 0 is that of a dataset without a screen, draw k comes from other
noise of the same row under the same labels and conditions. So a row depends on (seed, i, labels and conditions, screen)
alone. Draws are judged in blocks of a fixed size, as they are drawn, so that last bits do not depend on the company.

Shapes: B rows of a block, N rows, H = W side [px], S sentences, W words, Y labels and columns of conditions.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emixer.generation.dataset_files import Rows
from emixer.generation.plan_kinds import Labels
from emixer.generation.sampler import REDRAWN_ROWS, Sampler

NEVER_PASSED = -1
"""Stands for the number of redraws where even the last one was flagged."""

Judge = Callable[[NDArray[np.uint8], Sequence[str]], NDArray[np.bool_]]
"""Images uint8 (B, H, W) and reports -> which pairs (B,) are flagged."""


class Screen(Protocol):
    """What tells which pairs repeat training data. Travels to every sampler, which opens it once."""

    def open(self, device: str) -> Judge:
        """Loads what it judges by."""
        ...

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Where flagging begins, by measure."""
        ...


class Redrawing:
    """Judges the rows of a task, and draws anew those that are flagged."""

    def __init__(self, sampler: Sampler, judge: Judge, labels: Callable[[int, int], Labels], most_redraws: int) -> None:
        """labels: of `num` rows from a first one on, see `LabelPlan.labels`."""
        self._sampler, self._judge, self._labels, self._most_redraws = sampler, judge, labels, most_redraws

    def replace_flagged(
        self, rows: Rows, images_NHW: NDArray[np.uint8], words_NSW: NDArray[np.int32], seed: int, temperature: float
    ) -> NDArray[np.int8]:
        """Puts other draws of the same rows in the place of flagged ones; how often each of `rows` was redrawn.

        images, words: of the whole blocks that `rows` begin, as `Sampler.draw` gave them. A row whose last draw is
        flagged too is told as NEVER_PASSED.
        """
        redraws_N = np.zeros(rows.num, np.int8)
        waiting = np.flatnonzero(self._flagged(images_NHW, words_NSW, self._sampler.batch_size)[: rows.num])
        for number in range(1, self._most_redraws + 1):
            redraws_N[waiting] = number
            still = []
            for block in np.unique((rows.first + waiting) // REDRAWN_ROWS):
                first = int(block) * REDRAWN_ROWS
                images, words = self._sampler.draw_again(
                    self._labels(first, REDRAWN_ROWS), first, seed, temperature, number
                )
                here = waiting[(rows.first + waiting) // REDRAWN_ROWS == block]
                place = rows.first + here - first
                images_NHW[here], words_NSW[here] = images[place], words[place]
                still.append(here[self._flagged(images, words, REDRAWN_ROWS)[place]])
            waiting = np.concatenate([np.empty(0, np.int64), *still])
        redraws_N[waiting] = NEVER_PASSED
        return redraws_N

    def _flagged(
        self, images_NHW: NDArray[np.uint8], words_NSW: NDArray[np.int32], rows_a_block: int
    ) -> NDArray[np.bool_]:
        reports = self._sampler.trained.vocabulary.decode(words_NSW)
        return np.concatenate([
            self._judge(images_NHW[first : first + rows_a_block], reports[first : first + rows_a_block])
            for first in range(0, len(reports), rows_a_block)
        ])  # fmt: skip
