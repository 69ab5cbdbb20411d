"""Ranks among the control, and the balance between training and held-out images."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from emixer.audit.balance import balance, make_groups, uneven_remarks
from emixer.audit.control import Nearness, min_control, nearer_than_control, ranks_above, ranks_below


def test_ranks_are_those_of_conformal_prediction() -> None:
    control = np.array([0.4, 0.1, 0.2, 0.2])
    assert ranks_below(np.array([0.05, 0.1, 0.2, 0.3, 9.0]), control).tolist() == [0.2, 0.4, 0.8, 0.8, 1.0]
    assert ranks_above(np.array([0.5, 0.4, 0.15]), control).tolist() == [0.2, 0.4, 0.8]


@pytest.mark.parametrize("level", [0.1, 0.01, 1 / 300])
def test_the_min_control_is_just_enough(level: float) -> None:
    num = min_control(level)
    assert ranks_below(np.zeros(1), np.ones(num))[0] <= level * (1 + 1e-9)
    assert ranks_below(np.zeros(1), np.ones(num - 1))[0] > level


def made(num: int, seed: int) -> Nearness:
    generator = np.random.default_rng(seed)
    return Nearness(generator.gamma(20, size=num), generator.gamma(22, size=num))


def test_images_like_the_control_are_flagged_no_more_often_than_the_level() -> None:
    level = 0.02
    shares = [nearer_than_control(made(2000, seed), made(500, 100 + seed), level).flagged.mean() for seed in range(20)]
    assert np.mean(shares) <= level
    assert not any(nearer_than_control(made(2000, seed), made(500, 1), level).copies.any() for seed in range(5))


def test_the_control_itself_stays_below_the_level() -> None:
    control = made(400, 5)
    assert nearer_than_control(control, control, 0.01).flagged.mean() < 0.01


def test_a_copy_is_flagged_and_an_image_that_is_near_to_everything_is_not() -> None:
    control = made(400, 5)
    images = Nearness(np.array([0.01, 2.0, 20.0]), np.array([21.0, 2.2, 22.0]))
    found = nearer_than_control(images, control, 0.01)
    assert found.flagged.tolist() == [True, False, False]
    assert found.copies.tolist() == [True, False, False]


def test_a_copy_is_nearer_than_every_image_of_the_control() -> None:
    control = Nearness(np.array([0.1, *np.linspace(8, 20, 399)]), np.full(400, 15.0))
    found = nearer_than_control(Nearness(np.array([0.2, 0.05]), np.full(2, 21.0)), control, 0.01)
    assert found.flagged.tolist() == [True, True]
    assert found.copies.tolist() == [False, True]


def test_the_balance_by_hand() -> None:
    train = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]], np.float32)
    held_out = np.array([[1], [1], [1], [0]], np.float32)
    found = balance(train, held_out)
    share = (2.5 / 4 + 2 / 4 + 2 / 4) / 3
    assert found.share == pytest.approx(share), "ties count half"
    # of the three groups of training images the first is nearer than each other for 2.5 images of four: strays of 1/8,
    # 1/8 and 0, whose mean square is twice the variance of one group; the difference is between three groups and one;
    # 4.3 is Student's quantile for two degrees of freedom
    width = 4.3026527 * ((1 / 64 + 1 / 64) / 3 / 2 * (1 / 3 + 1)) ** 0.5
    assert found.interval == pytest.approx((share - width, share + width))
    # 12.7 for one degree, of strays of 1/8: wider than there are shares
    assert balance(train[:, :2], held_out).interval == (0, 1)


def test_the_interval_of_a_balance_holds_a_half_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        effects = generator.normal(0, 0.3, 12)  # groups differ, as those of people do
        nearness = (generator.random((500, 12)) + effects).astype(np.float32)
        low, high = balance(nearness[:, :8], nearness[:, 8:]).interval
        held += low <= 0.5 <= high
    assert 0.92 <= held / 200 <= 0.99


def test_half_of_honest_images_are_nearer_to_training_images_than_to_as_many_held_out_ones() -> None:
    generator = np.random.default_rng(0)
    found = balance(generator.random((4000, 8), np.float32), generator.random((4000, 2), np.float32))
    assert found.share == pytest.approx(0.5, abs=0.02)
    assert found.interval[0] < 0.5 < found.interval[1]


def test_images_that_repeat_training_images_tip_the_balance() -> None:
    generator = np.random.default_rng(0)
    train = generator.random((4000, 8), np.float32)
    train[np.arange(1000), generator.integers(8, size=1000)] = 2
    found = balance(train, generator.random((4000, 1), np.float32))
    assert found.share == pytest.approx(0.5 + 0.5 * 0.25 / 8, abs=0.02), "a quarter is surely nearer to one of 8 groups"
    all_of_them = balance(train + 1, generator.random((4000, 1), np.float32))
    assert all_of_them.share > 0.99
    assert all_of_them.interval[0] > 0.9


def test_groups_are_of_one_size_and_hold_one_image_of_each_patient() -> None:
    groups = make_groups(np.tile(np.arange(205), 4), np.repeat(np.arange(25), 3))
    assert groups is not None
    assert groups.size == 25
    assert np.bincount(groups.train[groups.train >= 0]).tolist() == [25] * 8
    assert (groups.train.reshape(4, 205) >= 0).sum(0).max() == 1
    assert len({int(n) // 205 for n in np.flatnonzero(groups.train >= 0)}) == 4, "not always the first of a patient"
    assert groups.num_held_out == 1
    assert (groups.held_out.reshape(25, 3) >= 0).sum(1).tolist() == [1] * 25
    assert make_groups(np.repeat(np.arange(7), 100), np.arange(50)) is None, "not enough for several groups"


def test_honest_images_are_balanced_however_many_images_the_patients_of_a_split_have() -> None:
    # as in the official splits of NIH: nine images a held-out patient, three of others
    generator = np.random.default_rng(0)

    def images(patients: int, each: int) -> np.ndarray:
        person = generator.normal(size=(patients, 6)).repeat(each, axis=0)
        return person + generator.normal(0, 0.2, person.shape)

    train, held_out, generated = images(1200, 3), images(50, 9), images(2000, 1)
    groups = make_groups(np.arange(1200).repeat(3), np.arange(50).repeat(9))
    assert groups is not None

    def nearness(real: np.ndarray, group: np.ndarray) -> np.ndarray:
        trees = [cKDTree(real[group == n]) for n in range(group.max() + 1)]
        return np.stack([-tree.query(generated)[0] for tree in trees], axis=1)

    found = balance(nearness(train, groups.train), nearness(held_out, groups.held_out))
    assert found.interval[0] < 0.5 < found.interval[1]


def test_sides_that_are_no_random_split_of_patients_are_remarked_on() -> None:
    (remark,) = uneven_remarks(np.arange(1200).repeat(3), np.arange(50).repeat(9))
    assert "Training patients have 3.0 images each and held-out ones 9.0" in remark
    assert not uneven_remarks(np.arange(1200).repeat(3), np.arange(50).repeat(4))
