"""Attribute inference: whether a dataset discloses the sex or age group of a person whose image an attacker holds.

The attacker finds the generated image nearest to the person's and guesses the values that its row was conditioned on.
Sex and age are visible in an image, and a good model draws them, so guessing well is not a finding in itself. It is one
if guesses are *better for people the model was trained on* than for held-out people: then rows repeat training people.

Shapes: N training images, M held-out ones.
Source: attribute inference by the nearest record (Yeom et al. 2018; Stadler et al. 2022); held-out people as its
control.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emixer.evaluation.resampling import Figures, intervals

Values = NDArray[Any]
"""Text, None where unknown."""
MIN_KNOWN = 20
"""Minimum number of images with a known value on each side."""


@dataclass(frozen=True)
class People:
    """Images of one side: true value, value of the nearest generated row, and subject."""

    truth: Values
    guess: Values
    subjects: Sequence[str]

    def known(self) -> "People":
        """Only the images whose true value is known."""
        rows = np.flatnonzero([value is not None for value in self.truth])
        return People(self.truth[rows], self.guess[rows], [self.subjects[int(row)] for row in rows])

    def __len__(self) -> int:
        return len(self.truth)


def disclosure(train: People, held_out: People, made: Values, num_resamples: int) -> dict[str, Any] | None:
    """How much better guesses are for training than for held-out people; None if too few values are known.

    made: values of all generated rows. If the nearest row has no value, the most frequent one is guessed. It is also
    the baseline: the best guess without an image. `gain` is the share of right guesses above that of the baseline,
    `disclosed` the difference of gains, with its 95 % interval by resampling subjects.
    """
    train, held_out = train.known(), held_out.known()
    frequent = Counter(value for value in made if value is not None).most_common(1)
    if min(len(train), len(held_out)) < MIN_KNOWN or not frequent:
        return None
    usual = frequent[0][0]
    truth = np.concatenate([train.truth, held_out.truth])
    guess = np.array([usual if value is None else value for value in (*train.guess, *held_out.guess)], object)
    is_right, is_usual = (guess == truth).astype(float), (truth == usual).astype(float)
    is_train = np.arange(len(truth)) < len(train)

    def measure(rows: NDArray[np.int64]) -> Figures:
        sides = {"train": rows[is_train[rows]], "held_out": rows[~is_train[rows]]}
        if not all(map(len, sides.values())):
            return {}
        gains = {side: float((is_right - is_usual)[of].mean()) for side, of in sides.items()}
        return {"disclosed": gains["train"] - gains["held_out"]}

    between = intervals(measure, [*train.subjects, *held_out.subjects], num_resamples)
    return {
        "train": _side(is_right[is_train], is_usual[is_train]),
        "held_out": _side(is_right[~is_train], is_usual[~is_train]),
        **measure(np.arange(len(truth))),
        "interval": list(between.get("disclosed", (-1.0, 1.0))),
    }


def _side(is_right: NDArray[np.float64], is_usual: NDArray[np.float64]) -> dict[str, float]:
    right, baseline = float(is_right.mean()), float(is_usual.mean())
    return {"images": len(is_right), "right": right, "baseline": baseline, "gain": right - baseline}
