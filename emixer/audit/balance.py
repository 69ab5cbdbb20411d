"""Share of generated images nearer to training images than to equally many held-out ones; by chance it is a half.

One image of each training patient is drawn, and these are split into groups as large as that of one image of each
held-out patient: equally many images of fewer patients would differ less from each other, and be nearer to less. Of the
images of a model that does not memorise, half are nearer to any group of training images than to the held-out one,
however blurred or similar they are, provided that patients were split at random (see `uneven_remarks`). Shares
between two groups of training images stray from a half by chance, with twice the variance of a single group; a mean
over G groups of one kind and K of the other has 1/G + 1/K of that.

Shapes: N images, G groups of training images, K groups of held-out ones.
Source: the DCR overfitting measure of SDMetrics; groups of equal size, and their spread, are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

MIN_GROUPS = 4
_MAX_GROUPS = 32
_MAX_UNEVEN = 1.5
"""Ratio of images per patient beyond which two sides are no random split of patients."""
_QUANTILE = 0.975


@dataclass(frozen=True)
class Groups:
    """Group of each image, all groups of equal size; -1 for images in none."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    size: int

    @property
    def num_train(self) -> int:
        """Number of groups of training images."""
        return int(self.train.max(initial=-1)) + 1

    @property
    def num_held_out(self) -> int:
        """Number of groups of held-out images."""
        return int(self.held_out.max(initial=-1)) + 1


@dataclass(frozen=True)
class Balance:
    """share: of images nearer to a group of training images than to one of held-out images; interval: at 95 %."""

    share: float
    interval: tuple[float, float]


def make_groups(train_owners: NDArray[np.int64], held_out_owners: NDArray[np.int64]) -> Groups | None:
    """Group one image of each patient; None if there are too few of training for MIN_GROUPS. owners: subject of each
    image."""
    size = min(len(np.unique(held_out_owners)), len(np.unique(train_owners)) // (2 * MIN_GROUPS))
    if size < 1:
        return None
    return Groups(_grouped(train_owners, size, seed=1), _grouped(held_out_owners, size, seed=2), size)


def uneven_remarks(train_owners: NDArray[np.int64], held_out_owners: NDArray[np.int64]) -> Sequence[str]:
    """Caveats for sides that are no random split of patients, by their images per patient."""
    train, held_out = (len(owners) / len(np.unique(owners)) for owners in (train_owners, held_out_owners))
    if max(train, held_out) <= _MAX_UNEVEN * min(train, held_out):
        return []
    return [
        f"Training patients have {train:.1f} images each and held-out ones {held_out:.1f}: patients were not split at "
        "random, so held-out images may differ from training images by more than chance. Read figures that compare the "
        "two with care, or split the patients of the collection at random."
    ]


def balance(nearness_NG: NDArray[np.float32], held_out_NK: NDArray[np.float32]) -> Balance:
    """Balance over groups. nearness: to the nearest image of each group, higher is nearer. Ties count half."""
    shares = [_share(train_N, other_N) for train_N in nearness_NG.T for other_N in held_out_NK.T]
    pairs = [(i, j) for i in range(nearness_NG.shape[1]) for j in range(i)]
    strays = [_share(nearness_NG[:, i], nearness_NG[:, j]) - 0.5 for i, j in pairs]
    of_one_group = float(np.mean(np.square(strays))) / 2
    num_train, num_held_out = nearness_NG.shape[1], held_out_NK.shape[1]
    spread = (of_one_group * (1 / num_train + 1 / num_held_out)) ** 0.5
    width = float(stdtrit(num_train - 1, _QUANTILE)) * spread
    share = float(np.mean(shares))
    return Balance(share, (max(0.0, share - width), min(1.0, share + width)))


def _share(first_N: NDArray[np.float32], second_N: NDArray[np.float32]) -> float:
    return float(np.mean((first_N > second_N) + 0.5 * (first_N == second_N)))


def _grouped(owners_N: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Draw one image of each owner, in groups of `size`."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(owners_N))
    _, first = np.unique(owners_N[shuffled], return_index=True)
    drawn = generator.permutation(shuffled[first])
    groups_N = np.full(len(owners_N), -1, np.int64)
    num = min(len(drawn) // size, _MAX_GROUPS)
    groups_N[drawn[: num * size]] = np.arange(num * size) // size
    return groups_N
