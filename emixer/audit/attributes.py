"""Does a dataset tell what it was not asked: the sex or the age group of the person whose image one holds?

An attacker looks for the generated image nearest to a person's and guesses what that row was conditioned on. Sex and
age show in an image, and a good model draws what shows; so guessing well is no finding by itself. What would be one is
guessing *better for those the model was trained on* than for held-out people: then rows repeat who they were made of.

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
"""Text, None where it is not known."""
LEAST_KNOWN = 20
"""Images a side whose value must be known for anything to be said."""


@dataclass(frozen=True)
class People:
    """Images of one side: what is true of each, what the nearest generated row says, and whose it is."""

    truth: Values
    guess: Values
    subjects: Sequence[str]

    def known(self) -> "People":
        """Those of whom the truth is known."""
        rows = np.flatnonzero([value is not None for value in self.truth])
        return People(self.truth[rows], self.guess[rows], [self.subjects[int(row)] for row in rows])

    def __len__(self) -> int:
        return len(self.truth)


def disclosure(train: People, held_out: People, made: Values, num_resamples: int) -> dict[str, Any] | None:
    """How much better guesses are for training than for held-out people; None where too few are known.

    made: values of all generated rows. Whose nearest row says nothing is guessed to have the most frequent of them,
    which is also the baseline: what can be guessed without an image. `gain` is the share of right guesses above that of
    the baseline, `disclosed` the difference of gains, with its 95 % interval: subjects are resampled.
    """
    train, held_out = train.known(), held_out.known()
    frequent = Counter(value for value in made if value is not None).most_common(1)
    if min(len(train), len(held_out)) < LEAST_KNOWN or not frequent:
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
