"""The order of the data is a pure function that resumes by a number."""

from itertools import islice

import numpy as np
import pytest

from emixer.data.order import DataOrder, Position

ORDER = DataOrder(group_rows=(10, 10, 10, 10, 10, 3), window_rows=20, seed=7)


def rows_of(order: DataOrder, windows: list[int]) -> list[tuple[int, int]]:
    """(row group, row within it) in reading order."""
    rows: list[tuple[int, int]] = []
    for window in windows:
        inside = [(int(g), r) for g in sorted(order.groups_of(window)) for r in range(order.group_rows[g])]
        rows += [inside[i] for i in order.permutation(window, len(inside))]
    return rows


def test_an_epoch_shows_every_image_once() -> None:
    for epoch in range(3):
        windows = [epoch * ORDER.num_windows + part for part in range(ORDER.num_windows)]
        rows = rows_of(ORDER, windows)
        assert sorted(rows) == [(g, r) for g, n in enumerate(ORDER.group_rows) for r in range(n)]


def test_epochs_differ_and_seeds_differ() -> None:
    first, second = rows_of(ORDER, [0, 1, 2]), rows_of(ORDER, [3, 4, 5])
    other = rows_of(DataOrder(ORDER.group_rows, ORDER.window_rows, seed=8), [0, 1, 2])
    assert first != second
    assert first != other
    assert first == rows_of(ORDER, [0, 1, 2])


def test_a_window_holds_about_as_many_images_as_asked() -> None:
    assert ORDER.num_windows == 3
    assert all(13 <= ORDER.rows_in(window) <= 20 for window in range(12))


def test_a_window_is_at_least_one_row_group() -> None:
    order = DataOrder(group_rows=(100, 100), window_rows=16, seed=0)
    assert order.num_windows == 2
    assert [order.rows_in(w) for w in range(2)] == [100, 100]


def windows_of(order: DataOrder, position: Position, worker: int, num: int) -> list[int]:
    return list(islice(order.seek(position, worker)[0], num))


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize("taken", [0, 1, 19, 20, 53, 200])
def test_seeking_finds_the_row_that_reading_from_the_start_would_give_next(num_workers: int, taken: int) -> None:
    for worker in range(num_workers):
        expected = rows_of(ORDER, windows_of(ORDER, Position(num_workers), worker, 40))[taken:][:50]
        position = Position(num_workers, rows=taken)
        _, skip = ORDER.seek(position, worker)
        assert rows_of(ORDER, windows_of(ORDER, position, worker, 10))[skip:][:50] == expected


def test_every_window_has_one_worker_and_equal_ones_are_taken_in_turns() -> None:
    shares = [windows_of(ORDER, Position(3, base=4), worker, 30) for worker in range(3)]
    assert sorted(window for share in shares for window in share)[:80] == list(range(4, 84))
    alike = DataOrder(group_rows=(16,) * 12, window_rows=32, seed=0)
    assert [windows_of(alike, Position(3), worker, 4) for worker in range(3)] == [
        [0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("num_groups", "num_workers", "epochs"),
    [(6, 2, 1), (5, 2, 30), (7, 2, 100), (13, 3, 30), (59, 8, 30), (93, 8, 100)],
)
def test_changing_the_number_of_workers_repeats_nothing_and_skips_less_than_a_window_each(
    num_groups: int, num_workers: int, epochs: int
) -> None:
    """However long the run: windows differ by a row group, and workers must not drift apart."""
    order = DataOrder(group_rows=(256,) * (num_groups - 1) + (213,), window_rows=1024, seed=0)
    before = Position(num_workers, rows=epochs * sum(order.group_rows) // num_workers + 300)
    after = order.for_workers(before, 3 if num_workers == 2 else 1)
    assert after.rows == 0
    for worker in range(num_workers):
        (window, following), taken = windows_of(order, before, worker, 2), order.seek(before, worker)[1]
        assert window + (taken > 0) <= after.base, "nothing twice"
        assert following >= after.base, "but what it has begun, no window of its own is lost"


@pytest.mark.parametrize(("windows_each", "base"), [(0, 4), (1, 7), (2, 10)])
def test_changing_the_number_of_workers_between_windows_loses_none(windows_each: int, base: int) -> None:
    alike = DataOrder(group_rows=(16,) * 12, window_rows=32, seed=0)
    assert alike.for_workers(Position(3, base=4, rows=32 * windows_each), 2) == Position(2, base=base)


def test_the_same_number_of_workers_keeps_the_position() -> None:
    position = Position(2, base=4, rows=31)
    assert ORDER.for_workers(position, 2) == position


def test_epochs_counts_images_of_all_workers() -> None:
    assert ORDER.epochs(Position(2, rows=53)) == pytest.approx(2.0)
    assert ORDER.epochs(Position(1, base=3)) == pytest.approx(1.0)


def test_permutations_are_uniform_enough_to_move_images_anywhere() -> None:
    firsts = [int(ORDER.permutation(window, 20)[0]) for window in range(400)]
    counts = np.bincount(firsts, minlength=20)
    assert counts.min() > 5  # expectation 20 each
