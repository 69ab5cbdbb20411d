"""Share of generated images nearer to training images than to equally many held-out ones; by chance it is a half.

The training images are split by subject into groups as large as the held-out one. Of the images of a model that does
not memorise, half are nearer to any such group than to the held-out one, however blurred or similar they are. Shares
between two groups of training images stray from a half by chance, with twice the variance of a single group; a mean
over G groups of one kind and K of the other has 1/G + 1/K of that.

Shapes: N images, G groups of training images, K groups of held-out ones.
Source: the DCR overfitting measure of SDMetrics; groups of equal size, and their spread, are ours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

MIN_GROUPS = 4
_MAX_GROUPS = 32
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
    """Group the images; None if there are too few training images for MIN_GROUPS. owners: subject of each image."""
    size = min(len(held_out_owners), len(train_owners) // (2 * MIN_GROUPS))
    if size < 1:
        return None
    return Groups(_grouped(train_owners, size, seed=1), _grouped(held_out_owners, size, seed=2), size)


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
    """Shuffle owners, then cut after every `size` images, so that few owners are in two groups."""
    _, owner_N = np.unique(owners_N, return_inverse=True)
    order = np.random.default_rng(seed).permutation(owner_N.max() + 1)[owner_N].argsort(kind="stable")
    groups_N = np.full(len(owners_N), -1, np.int64)
    num = min(len(owners_N) // size, _MAX_GROUPS)
    groups_N[order[: num * size]] = np.arange(num * size) // size
    return groups_N
