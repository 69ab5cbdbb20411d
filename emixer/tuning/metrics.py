"""Metrics that a search may optimize: those of the validation pass, with their directions."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emixer.config.tune import TuneMetric
from emixer.errors import ConfigError


@dataclass(frozen=True)
class Aim:
    """A metric to optimize."""

    prefix: str
    """Prefix of its name in metrics.jsonl, after `validation/`."""
    direction: Literal["minimize", "maximize"]
    of_reports: bool = False
    """Whether it needs real reports."""
    judged: bool = False
    """Whether it needs labels that the image judge knows."""
    read: bool = False
    """Whether it needs labels that the report labeler knows."""
    real: str | None = None
    """The same metric of real images: if that is missing too, images cannot be measured this way."""
    undefined: float = math.nan
    """Score of a model whose output leaves the metric undefined."""

    @property
    def of_labels(self) -> bool:
        """Whether it needs labels."""
        return self.judged or self.read


AIMS: Mapping[TuneMetric, Aim] = {
    "fid": Aim("fid_", "minimize"),
    "word_cross_entropy": Aim("word_cross_entropy", "minimize", of_reports=True),
    "label_auc": Aim("label_auc_generated", "maximize", judged=True, real="label_auc_real"),
    "report_f1": Aim("report_f1_generated", "maximize", read=True),
    # reports that state almost nothing agree with their images by chance
    "pair_agreement": Aim(
        "pair_agreement_generated", "maximize", judged=True, read=True, of_reports=True, undefined=0.5
    ),
}


def directions(metrics: Sequence[TuneMetric]) -> list[Literal["minimize", "maximize"]]:
    """Return Optuna's directions, in order."""
    return [AIMS[name].direction for name in metrics]


@dataclass(frozen=True)
class ValidationRows:
    """The images of the validation pass, and the labels that can be read off them."""

    labels_NY: NDArray[np.uint8]
    """Labels of the images that have any."""
    num_reports: int
    """Those with a report."""
    teaches_reports: bool
    """Whether any training image has a report that can be read: without, models learn to write none."""
    label_names: Sequence[str]
    judged: Collection[str]
    """Labels that the image judge knows."""
    readable: Collection[str]
    """Labels that the report labeler knows."""
    enough: int
    """Images that must have a label, and images that must lack it, for it to be measured."""


def require_measurable(metrics: Sequence[TuneMetric], rows: ValidationRows) -> None:
    """Raise ConfigError, naming what is missing, for a metric that a validation pass on these images cannot report."""
    for name in metrics:
        aim = AIMS[name]
        if aim.of_reports and not rows.num_reports:
            raise ConfigError(
                f"tune.metrics names {name}, which needs reports, but none of the validation images has one. Raise "
                "validation.images, or choose another metric or shards with reports."
            )
        if aim.read and not rows.teaches_reports:
            raise ConfigError(
                f"tune.metrics names {name}, which judges generated reports, but no training image has a report in "
                "English, so models learn to write none. Choose another metric, or shards with such reports."
            )
        known = {label for label in rows.label_names if all(label in readers for readers in _readers(aim, rows))}
        if aim.of_labels and not known & _on_enough(rows):
            who = "the image judge" if aim.judged else "the report labeler"
            raise ConfigError(
                f"tune.metrics names {name}, but among the {len(rows.labels_NY)} labelled validation images no label "
                f"known to {who} has {rows.enough} positive and {rows.enough} negative ones. Raise validation.images, "
                "or choose another metric."
            )


def _readers(aim: Aim, rows: ValidationRows) -> list[Collection[str]]:
    return [rows.judged] * aim.judged + [rows.readable] * aim.read


def _on_enough(rows: ValidationRows) -> set[str]:
    present_Y = rows.labels_NY.sum(0)
    enough_Y = np.minimum(present_Y, len(rows.labels_NY) - present_Y) >= rows.enough
    return {name for name, enough in zip(rows.label_names, enough_Y, strict=True) if enough}


def measured(metrics: Sequence[TuneMetric], line: Mapping[str, float]) -> list[float]:
    """Return the values in a line of metrics.jsonl; NaN for one that was not finite, which is left out there.

    Raises ConfigError when the validation pass cannot report one.
    """
    return [_value(name, line) for name in metrics]


def _value(name: TuneMetric, line: Mapping[str, float]) -> float:
    aim = AIMS[name]
    prefix = f"validation/{aim.prefix}"
    matching = [value for key, value in line.items() if key.startswith(prefix) and "/" not in key[len(prefix) :]]
    if matching:
        return matching[0]
    if aim.real is not None and f"validation/{aim.real}" not in line:
        raise ConfigError(
            f"tune.metrics names {name}, which the validation pass does not report here, even for real images. "
            "Choose another metric, or shards with more labels in the validate split."
        )
    return aim.undefined
