"""Tests of emixer.gallery.charts."""

import math

import pytest

from emixer.gallery.charts import HEIGHT, WIDTH, _nice_steps, charts_of_run


def test_a_run_that_has_logged_nothing_has_no_charts() -> None:
    assert charts_of_run([]) == []


def test_lines_end_where_the_values_end() -> None:
    metrics = [{"images": x, "validation/word_cross_entropy": 8 - x / 100} for x in (100, 200, 400)]
    (chart,) = charts_of_run(metrics)
    (line,) = chart.lines
    assert chart.title == "Word cross-entropy"
    assert [(x, y) for _, _, x, y in line.points] == [("100", "7"), ("200", "6"), ("400", "4")]
    assert line.last == "4"
    xs, ys = [p[0] for p in line.points], [p[1] for p in line.points]
    assert xs[1] - xs[0] == pytest.approx((xs[2] - xs[1]) / 2, abs=0.2)  # 100 images, then 200
    assert ys == sorted(ys)  # falling values go down the picture
    assert min(xs + ys) >= 0
    assert max(xs) <= WIDTH
    assert max(ys) <= HEIGHT


def test_the_total_comes_first_and_real_lines_are_references() -> None:
    metrics = [{
        "images": 10, "generator/image": 1.0, "generator/total": 2.0, "validation/label_auc_generated": 0.6,
        "validation/label_auc_real": 0.8, "validation/label_auc_real/Edema": 0.9,
    }]  # fmt: skip
    losses, faithfulness = charts_of_run(metrics)
    assert [line.name for line in losses.lines] == ["total", "image"]
    assert [(line.name, line.reference) for line in faithfulness.lines] == [("generated", False), ("real", True)]
    assert "generated 0.6, real 0.8" in faithfulness.description


def test_a_long_series_becomes_means_of_equal_runs() -> None:
    metrics = [{"images": x, "discriminator/total": float(x % 2)} for x in range(1, 1601)]
    (line,) = charts_of_run(metrics)[0].lines
    assert len(line.points) == 160
    assert {text for _, _, _, text in line.points} == {"0.5"}


def test_values_that_are_not_finite_are_left_out() -> None:
    metrics = [{"images": 1, "discriminator/total": math.nan}, {"images": 2, "discriminator/total": 3.0}]
    assert len(charts_of_run(metrics)[0].lines[0].points) == 1


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [
        (0, 8, [0, 2, 4, 6, 8]),
        (0.61, 0.79, [0.6, 0.65, 0.7, 0.75, 0.8]),
        (-3, 1, [-3, -2, -1, 0, 1]),
        (2, 2, [1, 1.5, 2, 2.5, 3]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, steps: list[float]) -> None:
    assert _nice_steps(low, high, 4) == pytest.approx(steps)
