"""What guesses about people give away, against figures worked out by hand."""

import numpy as np
import pytest

from emixer.audit.attributes import People, disclosure

MADE = np.array(["F", "F", "M"], object)


def people(truth: str, guess: str, name: str) -> People:
    """One letter a person; `?` is not known."""
    columns = [np.array([None if value == "?" else value for value in text], object) for text in (truth, guess)]
    return People(columns[0], columns[1], [f"{name}{row}" for row in range(len(truth))])


def test_the_gain_over_the_most_frequent_value_is_set_beside_that_of_held_out_people() -> None:
    train = people("F" * 12 + "M" * 12 + "???", "F" * 12 + "M" * 9 + "F?F" + "FMF", "train")  # 21 right, 12 usual
    held_out = people("F" * 10 + "M" * 10, "F" * 5 + "M" * 5 + "F" * 5 + "M" * 5, "held")  # 10 right, 10 usual
    found = disclosure(train, held_out, MADE, num_resamples=50)
    assert found is not None
    assert found["train"] == pytest.approx({"images": 24, "right": 21 / 24, "baseline": 12 / 24, "gain": 9 / 24})
    assert found["held_out"] == pytest.approx({"images": 20, "right": 0.5, "baseline": 0.5, "gain": 0})
    assert found["disclosed"] == pytest.approx(9 / 24)
    low, high = found["interval"]
    assert low < 9 / 24 < high


def test_what_shows_in_everybodys_image_is_not_disclosed() -> None:
    train, held_out = people("FM" * 30, "FM" * 30, "train"), people("FM" * 20, "FM" * 20, "held")
    found = disclosure(train, held_out, MADE, num_resamples=50)
    assert found is not None
    assert (found["train"]["right"], found["held_out"]["right"]) == (1, 1)
    assert found["disclosed"] == 0
    assert found["interval"][0] < 0 < found["interval"][1]


def test_too_few_known_people_say_nothing() -> None:
    many, few = people("FM" * 30, "FM" * 30, "train"), people("F" * 19 + "?" * 30, "F" * 49, "held")
    assert disclosure(many, few, MADE, num_resamples=20) is None
    assert disclosure(many, many, np.array([None, None], object), num_resamples=20) is None
