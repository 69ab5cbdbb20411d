"""Pairs that a screen flags are withheld, and others drawn in their place.

Row i holds the first of its draws that passes. Draw 0 is that of a dataset without a screen, draw k comes from other
noise of the same row under the same labels and conditions. So a row depends on (seed, i, labels and conditions, screen)
alone. Draws are judged in blocks of a fixed size, as they are drawn, so that last bits do not depend on the company.

Shapes: B rows of a block, R of its rows that wait for another draw, N rows, H = W side [px], S sentences, W words, Y
labels and columns of conditions.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emixer.generation.dataset_files import Rows
from emixer.generation.plan_kinds import Labels
from emixer.generation.sampler import REDRAWN_ROWS, Sampler

NEVER_PASSED = -1
"""Stands for the number of redraws where even the last one was flagged."""

REASONS_BETWEEN, DRAWS_BETWEEN = " + ", "; "
"""What stands between the reasons of one withheld draw, and between draws, in the column `withheld_for`."""

Judge = Callable[[NDArray[np.uint8], Sequence[str]], Mapping[str, NDArray[np.bool_]]]
"""Images uint8 (B, H, W) and reports -> by reason, which pairs (B,) are flagged."""


class Screen(Protocol):
    """What tells which pairs repeat training data. Travels to every sampler, which opens it once."""

    def open(self, device: str) -> Judge:
        """Loads what it judges by."""
        ...

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Where flagging begins, by measure."""
        ...


@dataclass(frozen=True)
class Redrawn:
    """What became of the rows of a task."""

    redraws_N: NDArray[np.int8]
    """How many draws were withheld before the one that is there; NEVER_PASSED: that one is flagged too."""
    withheld_for_N: NDArray[np.str_]
    """Why each of them was, in order, e.g. `image_pixels + report; dates`; empty: none was."""


def count_reasons(withheld_for: Iterable[str]) -> Counter[str]:
    """Count the withheld draws by reason, from the column `withheld_for`; one draw may count for several."""
    return Counter(
        reason for row in withheld_for for draw in row.split(DRAWS_BETWEEN) for reason in draw.split(REASONS_BETWEEN)
    )


class Redrawing:
    """Judges the rows of a task, and draws anew those that are flagged."""

    def __init__(self, sampler: Sampler, judge: Judge, labels: Callable[[int, int], Labels], max_redraws: int) -> None:
        """labels: of `num` rows from a first one on, see `LabelPlan.labels`."""
        self._sampler, self._judge, self._labels, self._max_redraws = sampler, judge, labels, max_redraws

    def replace_flagged(
        self, rows: Rows, images_NHW: NDArray[np.uint8], words_NSW: NDArray[np.int32], seed: int, temperature: float
    ) -> Redrawn:
        """Puts other draws of the same rows in the place of flagged ones.

        images, words: of the whole blocks that `rows` begin, as `Sampler.draw` gave them.
        """
        redraws_N = np.zeros(rows.num, np.int8)
        reasons_N = self._reasons(images_NHW, words_NSW, self._sampler.batch_size)[: rows.num]
        withheld_for: list[list[str]] = [[reasons] if reasons else [] for reasons in reasons_N.tolist()]
        waiting = np.flatnonzero(reasons_N)
        for number in range(1, self._max_redraws + 1):
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
                reasons_R = self._reasons(images, words, REDRAWN_ROWS)[place]
                for row, reasons in zip(here, reasons_R, strict=True):
                    withheld_for[row] += [str(reasons)] if reasons else []
                still.append(here[np.flatnonzero(reasons_R)])
            waiting = np.concatenate([np.empty(0, np.int64), *still])
        redraws_N[waiting] = NEVER_PASSED
        return Redrawn(redraws_N, np.array([DRAWS_BETWEEN.join(draws) for draws in withheld_for], np.str_))

    def _reasons(
        self, images_NHW: NDArray[np.uint8], words_NSW: NDArray[np.int32], rows_per_block: int
    ) -> NDArray[np.object_]:
        """Why each pair (N,) is flagged, as text; empty: it is not."""
        reports = self._sampler.trained.vocabulary.decode(words_NSW)
        reasons_N = np.full(len(reports), "", np.object_)
        for first in range(0, len(reports), rows_per_block):
            block = slice(first, first + rows_per_block)
            found = self._judge(images_NHW[block], reports[block])
            for row in np.flatnonzero(np.logical_or.reduce(list(found.values()))):
                reasons_N[first + row] = REASONS_BETWEEN.join(name for name, is_so in found.items() if is_so[row])
        return reasons_N
