"""The order of the data is a pure function that resumes by a number."""

from itertools import islice

import numpy as np
import pytest

from emixer.data.order import DataOrder, Position, windows_from

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


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize("taken", [0, 1, 19, 20, 53, 200])
def test_seeking_finds_the_row_that_reading_from_the_start_would_give_next(num_workers: int, taken: int) -> None:
    for worker in range(num_workers):
        windows = list(islice(windows_from(worker, num_workers), 40))
        expected = rows_of(ORDER, windows)[taken:][:50]
        window, skip = ORDER.seek(Position(num_workers, rows=taken), worker)
        actual = rows_of(ORDER, list(islice(windows_from(window, num_workers), 10)))[skip:][:50]
        assert actual == expected


def test_changing_the_number_of_workers_repeats_nothing_and_skips_less_than_a_window_each() -> None:
    before = Position(2, rows=47)
    read = [w for worker in range(2) for w in range(worker, ORDER.seek(before, worker)[0] + 1, 2)]
    after = ORDER.for_workers(before, 3)
    assert after.num_workers == 3
    assert after.base == max(read) + 1
    assert set(range(after.base)) - set(read) <= {max(read) - 1}


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
