"""Label plans: which labels and conditions row i of a dataset carries, as a pure function of i.

A plan answers for any row, also beyond the last one asked for, so that the padding of the last block is what a longer
dataset would hold there.

Shapes: N rows, K distinct vectors, T turns, Y labels and columns of conditions.
Source: not in the paper, which draws y from the training distribution.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
_WORDS_A_COUNTER = 4  # Philox yields four 64-bit words for each value of its counter


class LabelPlan(Protocol):
    """Labels and conditions by row."""

    @property
    def description(self) -> str:
        """One line for people."""

    @property
    def num_rows(self) -> int | None:
        """Rows the plan lists, if it lists any."""

    @property
    def content(self) -> tuple[Labels | NDArray[np.int64], ...]:
        """What tells it from other plans of its kind."""

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """uint8 (num_rows, Y), 1 present, of rows [first_row, first_row + num_rows)."""


@dataclass(frozen=True)
class Prior:
    """Distinct vectors of the training images, and how many images carry each."""

    vectors_KY: Labels
    counts_K: NDArray[np.int64]

    def picked(self, uniform_N: NDArray[np.float64], may_K: NDArray[np.bool_] | None = None) -> Labels:
        """Vectors (N, Y) by inverse transform. may: which of them are drawn; None: all."""
        cumulative_K = (self.counts_K if may_K is None else self.counts_K * may_K).cumsum()
        drawn_N = (uniform_N * cumulative_K[-1]).astype(np.int64)
        picked_NY: Labels = self.vectors_KY[np.searchsorted(cumulative_K, drawn_N, side="right")]
        return picked_NY

    def carrying(self, wanted_Y: Labels) -> NDArray[np.bool_]:
        """Which vectors (K,) have all that is wanted."""
        return np.asarray(self.vectors_KY[:, wanted_Y == 1].all(axis=1))


@dataclass(frozen=True)
class TrainPlan:
    """Vectors drawn from the joint distribution of the training images."""

    prior: Prior
    seed: int
    description: str = "the joint label distribution of the training images"
    num_rows: None = None

    @property
    def content(self) -> tuple[Labels | NDArray[np.int64], ...]:
        """See `LabelPlan.content`."""
        return self.prior.vectors_KY, self.prior.counts_K

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """Inverse transform of one uniform number a row."""
        return self.prior.picked(_uniform(self.seed, first_row, num_rows))


@dataclass(frozen=True)
class BalancedPlan:
    """Row i has what turn i mod T wants; what else it has is drawn as the training images that have this have it."""

    prior: Prior
    wanted_TY: Labels
    seed: int
    description: str
    num_rows: None = None

    @property
    def content(self) -> tuple[Labels | NDArray[np.int64], ...]:
        """See `LabelPlan.content`."""
        return self.prior.vectors_KY, self.prior.counts_K, self.wanted_TY

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """Inverse transform within the images that have what the row's turn wants."""
        turn_N = np.arange(first_row, first_row + num_rows) % len(self.wanted_TY)
        uniform_N = _uniform(self.seed, first_row, num_rows)
        labels_NY = np.empty((num_rows, self.wanted_TY.shape[1]), np.uint8)
        for turn in np.unique(turn_N):
            here_N = turn_N == turn
            labels_NY[here_N] = self.prior.picked(uniform_N[here_N], self.prior.carrying(self.wanted_TY[turn]))
        return labels_NY


@dataclass(frozen=True)
class ListedPlan:
    """Given vectors, each so many times, in order; after the last one it starts again."""

    vectors_KY: Labels
    counts_K: NDArray[np.int64]
    description: str
    num_rows: int | None

    @property
    def content(self) -> tuple[Labels | NDArray[np.int64], ...]:
        """See `LabelPlan.content`."""
        return self.vectors_KY, self.counts_K

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """The list, read in a circle."""
        cumulative_K = self.counts_K.cumsum()
        place_N = np.arange(first_row, first_row + num_rows) % cumulative_K[-1]
        picked_NY: Labels = self.vectors_KY[np.searchsorted(cumulative_K, place_N, side="right")]
        return picked_NY


@dataclass(frozen=True)
class CompletedPlan:
    """A list whose rows get the conditions that they do not name from the training images: those that have the row's
    labels and named conditions; where there are none, those that have its named conditions."""

    listed: ListedPlan
    prior: Prior
    spans: tuple[tuple[int, int], ...]
    """First column of each condition, and the column behind its last."""
    seed: int

    @property
    def description(self) -> str:
        """One line for people."""
        return f"{self.listed.description}; what is not named as training images of these labels have it"

    @property
    def num_rows(self) -> int | None:
        """See `LabelPlan.num_rows`."""
        return self.listed.num_rows

    @property
    def content(self) -> tuple[Labels | NDArray[np.int64], ...]:
        """See `LabelPlan.content`."""
        return *self.listed.content, self.prior.vectors_KY, self.prior.counts_K

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """The listed rows, their open conditions drawn by one uniform number a row."""
        labels_NY = self.listed.labels(first_row, num_rows).copy()
        uniform_N = _uniform(self.seed, first_row, num_rows)
        vectors, which_N = np.unique(labels_NY, axis=0, return_inverse=True)
        for number, vector_Y in enumerate(vectors):
            here_N = which_N.reshape(-1) == number
            is_open_Y = self._open(vector_Y)
            if is_open_Y.any():
                drawn_NY = self.prior.picked(uniform_N[here_N], self._alike(vector_Y))
                labels_NY[here_N] = np.where(is_open_Y, drawn_NY, vector_Y)
        return labels_NY

    def _open(self, vector_Y: Labels) -> NDArray[np.bool_]:
        is_open_Y = np.zeros(len(vector_Y), bool)
        for first, end in self.spans:
            is_open_Y[first:end] = not vector_Y[first:end].any()
        return is_open_Y

    def _alike(self, vector_Y: Labels) -> NDArray[np.bool_] | None:
        first_condition = self.spans[0][0]
        named_Y = vector_Y.copy()
        named_Y[:first_condition] = 0
        for wanted_Y in (vector_Y, named_Y):
            carrying_K = self.prior.carrying(wanted_Y)
            if carrying_K.any():
                return carrying_K
        return None  # no training image has these conditions together: as all of them


def plan_digest(plan: LabelPlan) -> str:
    """What tells two plans apart: a hash of their contents, not of where they were read from."""
    digest = hashlib.sha256(type(plan).__name__.encode())
    for part in plan.content:
        digest.update(part.tobytes())
    return digest.hexdigest()[:16]


def _uniform(seed: int, first_row: int, num_rows: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), one for each row, by random access into one Philox stream."""
    counter, skip = divmod(first_row, _WORDS_A_COUNTER)
    words: NDArray[np.uint64] = np.random.Philox(key=seed, counter=counter).random_raw(skip + num_rows)[skip:]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
