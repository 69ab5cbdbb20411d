"""Figures of pairs: do films show their labels, do reports state them, do the two agree, are reports varied.

Shapes: N pairs, Y labels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emixer.evaluation.auc_table import MIN_FILMS
from emixer.evaluation.label_faithfulness import area_under_roc
from emixer.evaluation.report_mentions import READABLE_LABELS, Mention, score_mentions

Report = list[list[str]]
Metrics = dict[str, float]


def label_areas(scores_NY: Tensor | None, labels_NY: Tensor, label_names: Sequence[str]) -> Metrics:
    """label_auc, mean over labels, and label_auc/<L>. scores: of a judge; None: there is none. labels: NaN unknown."""
    if scores_NY is None:
        return {}
    area_Y = area_under_roc(scores_NY, labels_NY)
    measured_Y = _measurable(labels_NY) & ~area_Y.isnan().numpy()
    return _over_labels("label_auc", area_Y.numpy(), measured_Y, label_names)


def agreement(scores_NY: Tensor | None, mentions_NY: NDArray[np.int8], label_names: Sequence[str]) -> Metrics:
    """pair_agreement and pair_agreement/<L>: whether films show what their own reports say.

    It does not matter what both were made from. What is uncertain does not count. mentions: what the reports say.
    """
    if scores_NY is None or not len(mentions_NY):
        return {}
    stated_NY = torch.from_numpy(mentions_NY).float()
    stated_NY[stated_NY == Mention.UNMENTIONED] = Mention.NEGATED
    stated_NY[stated_NY == Mention.UNCERTAIN] = torch.nan
    area_Y = area_under_roc(scores_NY, stated_NY)
    readable_Y = np.array([name in READABLE_LABELS for name in label_names])
    measured_Y = _measurable(stated_NY) & readable_Y & ~area_Y.isnan().numpy()
    return _over_labels("pair_agreement", area_Y.numpy(), measured_Y, label_names)


def variety(reports: Sequence[Report]) -> Metrics:
    """distinct_reports and words_per_report."""
    if not reports:
        return {}
    distinct = len({repr(report) for report in reports})
    words = sum(len(sentence) for report in reports for sentence in report)
    return {"distinct_reports": distinct / len(reports), "words_per_report": words / len(reports)}


def faithfulness(mentions_NY: NDArray[np.int8], labels_NY: Tensor, label_names: Sequence[str]) -> Metrics:
    """report_precision, report_recall, report_f1 and report_f1/<L>: what reports say against the labels."""
    known_N = ~labels_NY.isnan().any(1)
    labels_NY = labels_NY[known_N]
    scores = score_mentions(mentions_NY[known_N.numpy()], labels_NY.numpy())
    measured_Y = _measurable(labels_NY) & np.array([name in READABLE_LABELS for name in label_names])
    metrics: Metrics = {}
    for name, values_Y in {"f1": scores.f1_Y, "precision": scores.precision_Y, "recall": scores.recall_Y}.items():
        found = _over_labels(f"report_{name}", values_Y, measured_Y, label_names)
        metrics |= found if name == "f1" else {key: value for key, value in found.items() if "/" not in key}
    return metrics


def _measurable(labels_NY: Tensor) -> NDArray[np.bool_]:
    measurable_Y: NDArray[np.bool_] = (
        ((labels_NY == 1).sum(0) >= MIN_FILMS) & ((labels_NY == 0).sum(0) >= MIN_FILMS)
    ).numpy()
    return measurable_Y


def _over_labels(
    name: str, value_Y: NDArray[np.float64], use_Y: NDArray[np.bool_], label_names: Sequence[str]
) -> Metrics:
    each = {f"{name}/{label}": float(v) for label, v, use in zip(label_names, value_Y, use_Y, strict=True) if use}
    return {name: sum(each.values()) / len(each), **each} if each else {}
