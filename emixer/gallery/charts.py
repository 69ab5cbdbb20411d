"""Training curves of a run as plain geometry: charts, lines and ticks. The template draws the SVG.

Source: metrics.jsonl; x is always real images seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emixer.metric_names import fid_network

WIDTH, HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 30
_MAX_POINTS = 160
_X_KEY = "images"

Metrics = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Series:
    """One line of a chart. reference: a target that other lines should approach, drawn dashed."""

    name: str
    key: str
    reference: bool = False


@dataclass(frozen=True)
class Tick:
    """A label at a position [px] on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A drawn series. points: (x, y) [px] with the texts shown under the pointer."""

    name: str
    reference: bool
    path: str
    points: tuple[tuple[float, float, str, str], ...]
    last: str


@dataclass(frozen=True)
class Chart:
    """A chart ready to be drawn in WIDTH x HEIGHT."""

    title: str
    note: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    @property
    def description(self) -> str:
        """Text alternative for screen readers."""
        return f"{self.title} over images seen. At the end: " + ", ".join(
            f"{line.name} {line.last}" for line in self.lines
        )


def charts_of_run(metrics: Metrics) -> list[Chart]:
    """Charts that the keys of `metrics` allow; empty for a run without metrics."""
    keys = sorted({key for line in metrics for key in line})
    fid = [key for key in keys if key.startswith("validation/fid_")]
    plans = [
        ("Discriminator losses", "lower: it tells real from generated", _terms(keys, "discriminator/")),
        ("Generator losses", "adversarial and rotation terms, words and stop decisions", _terms(keys, "generator/")),
        ("Fréchet distance of images", "lower is better; compare at the same number of images only",
         [Series(fid_network(key), key) for key in fid]),
        ("Word cross-entropy", "nats a word on held-out reports, teacher-forced; lower is better",
         [Series("held-out reports", "validation/word_cross_entropy")]),
        ("Label AUC of images", "of a judge fitted on real images; dashed: the same judge on held-out real ones",
         _beside("validation/label_auc")),
        ("Label F1 of reports", "mean, by a rule-based reader; dashed: the same reader on real held-out reports",
         _beside("validation/report_f1")),
        ("Image-report agreement", "AUC of the judge against what their reports state; dashed: real pairs",
         _beside("validation/pair_agreement")),
    ]  # fmt: skip
    drawn = [_draw(title, note, series, metrics) for title, note, series in plans]
    return [chart for chart in drawn if chart is not None]


def _terms(keys: Sequence[str], prefix: str) -> list[Series]:
    found = [key for key in keys if key.startswith(prefix)]
    found.sort(key=lambda key: (key != f"{prefix}total", key))
    return [Series(key.removeprefix(prefix).replace("_", " "), key) for key in found]


def _beside(prefix: str) -> list[Series]:
    return [Series("generated", f"{prefix}_generated"), Series("real", f"{prefix}_real", reference=True)]


def _draw(title: str, note: str, series: Sequence[Series], metrics: Metrics) -> Chart | None:
    curves = [(s, curve) for s in series if (curve := _curve(metrics, s.key))]
    if not curves:
        return None
    all_x, all_y = ([point[axis] for _, curve in curves for point in curve] for axis in (0, 1))
    x_steps, y_steps = _nice_steps(0, max(all_x), 4), _nice_steps(min(all_y), max(all_y), 4)

    def x_at(value: float) -> float:
        return _LEFT + (value - x_steps[0]) / (max(all_x) or 1) * (WIDTH - _LEFT - _RIGHT)

    def y_at(value: float) -> float:
        span = y_steps[-1] - y_steps[0]
        return HEIGHT - _BOTTOM - (value - y_steps[0]) / span * (HEIGHT - _TOP - _BOTTOM)

    lines = [
        Line(
            name=s.name,
            reference=s.reference,
            path="M" + "L".join(f"{x_at(x):.1f} {y_at(y):.1f}" for x, y in curve),
            points=tuple((round(x_at(x), 1), round(y_at(y), 1), _count(x), _value(y)) for x, y in curve),
            last=_value(curve[-1][1]),
        )
        for s, curve in curves
    ]
    x_ticks = tuple(Tick(x_at(x), _count(x)) for x in x_steps if x <= max(all_x))
    return Chart(title, note, tuple(lines), x_ticks, tuple(Tick(y_at(y), _value(y)) for y in y_steps))


def _curve(metrics: Metrics, key: str) -> list[tuple[float, float]]:
    """Points (images, value); long series are averaged over blocks of equal length."""
    points = [(float(line[_X_KEY]), float(line[key])) for line in metrics if key in line]
    points = [point for point in points if math.isfinite(point[1])]
    size = -(-len(points) // _MAX_POINTS) or 1
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(run[-1][0], math.fsum(y for _, y in run) / len(run)) for run in runs]


def _nice_steps(low: float, high: float, num: int) -> list[float]:
    """Round numbers that enclose [low, high] in about `num` steps."""
    if high - low < 1e-12 * max(abs(high), 1):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    raw = (high - low) / num
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _count(value: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.0f}"


def _value(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
