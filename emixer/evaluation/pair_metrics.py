"""Figures of pairs: whether images show their labels, reports state them and the two agree, and how varied reports are.

Most are functions of a set of rows, so that test sets can be resampled. The labels that count are chosen once, on all
rows: otherwise the mean of a resample would be over other labels. For the same reason, means that are compared are over
the labels that can be measured on every side (`over_common_labels`).

Shapes: N pairs, Y labels.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emixer.evaluation.auc_table import measurable
from emixer.evaluation.label_faithfulness import roc_auc
from emixer.evaluation.radiology_terms import NO_FINDING
from emixer.evaluation.report_mentions import READABLE_LABELS, Mention, score_mentions
from emixer.evaluation.resampling import ALL, Figures, Measure, Rows

Report = list[list[str]]
Side = TypeVar("Side", bound=Hashable)


def over_common_labels(makers: Mapping[Side, Callable[..., Measure]]) -> tuple[dict[Side, Measure], list[str]]:
    """Measures of several sides whose means are over the same labels, and these: those that each side can measure.

    makers: of each side, one of the functions below with all arguments but `counted`. A side without any measurable
    label has no mean, and takes none from the others.
    """
    found = {side: _labels_in(maker()(ALL)) for side, maker in makers.items()}
    first, *others = [labels for labels in found.values() if labels] or [[]]
    common = [label for label in first if all(label in labels for labels in others)]
    return {side: maker(counted=common) for side, maker in makers.items()}, common


def label_aucs(
    scores_NY: Tensor | None, labels_NY: Tensor, label_names: Sequence[str], counted: Collection[str] | None = None
) -> Measure:
    """label_auc, mean over labels, and label_auc/<L>. scores: of a judge; None without one. labels: NaN unknown.

    counted, here and below: labels that means are over; None: all that can be measured.
    """
    return _areas("label_auc", scores_NY, labels_NY, label_names, label_names, counted)


def agreement(
    scores_NY: Tensor | None, mentions_NY: NDArray[np.int8], label_names: Sequence[str],
    counted: Collection[str] | None = None,
) -> Measure:  # fmt: skip
    """pair_agreement and pair_agreement/<L>: whether images show what their own reports state.

    Independent of the labels both were generated from. Uncertain mentions do not count, nor do pairs without a report.
    mentions: labels that the reports mention.
    """
    stated_NY = torch.from_numpy(mentions_NY).float()
    stated_NY[stated_NY == Mention.UNMENTIONED] = Mention.NEGATED
    stated_NY[stated_NY == Mention.UNCERTAIN] = torch.nan
    return _areas("pair_agreement", scores_NY, stated_NY, label_names, READABLE_LABELS, counted)


def agreement_over(labels: Collection[str], found: Figures) -> Figures:
    """What `agreement` found, with a mean over exactly these labels, so that means of several models are comparable: a
    label that reports state, or fail to state, too seldom to be measured counts as chance. Unchanged without labels."""
    if not labels:
        return found
    values = [found.get(f"pair_agreement/{label}", 0.5) for label in labels]
    return found | {"pair_agreement": sum(values) / len(values)}


def variety(reports: Sequence[Report]) -> Figures:
    """distinct_reports and words_per_report."""
    if not reports:
        return {}
    distinct = len({repr(report) for report in reports})
    words = sum(len(sentence) for report in reports for sentence in report)
    return {"distinct_reports": distinct / len(reports), "words_per_report": words / len(reports)}


def faithfulness(
    mentions_NY: NDArray[np.int8], labels_NY: Tensor, label_names: Sequence[str],
    readable: Collection[str] = READABLE_LABELS, counted: Collection[str] | None = None,
) -> Measure:  # fmt: skip
    """report_precision, report_recall, report_f1 and report_f1/<L>: findings that reports state, against the labels;
    report_f1_chance and .../<L>: F1 of equally many statements in reports drawn at random, and report_f1_over_chance
    and .../<L>: the difference.

    Negations, which come at no cost and must not pass for knowledge, are measured separately:
    report_negative_precision is the share of all negations that are right; report_{positive,negative}_statements are
    numbers per report.

    readable: labels known to the labeler of the reports; the others do not count.
    """
    known_N = ~labels_NY.isnan().any(1).numpy()
    used_Y = measurable(labels_NY[known_N]) & _among(label_names, readable)
    finding_Y = _among(label_names, readable) & ~_among(label_names, {NO_FINDING})
    denies = bool((mentions_NY[known_N][:, finding_Y] == Mention.NEGATED).any())

    def measure(rows: Rows) -> Figures:
        known_R = known_N[rows]
        scores = score_mentions(mentions_NY[rows][known_R], labels_NY[rows][known_R].numpy())
        over_Y = scores.f1_Y - scores.chance_f1_Y
        metrics = _over_labels("report_f1", scores.f1_Y, used_Y, label_names, counted)
        metrics |= _over_labels("report_f1_chance", scores.chance_f1_Y, used_Y, label_names, counted)
        metrics |= _over_labels("report_f1_over_chance", over_Y, used_Y, label_names, counted)
        for name, values_Y in {"precision": scores.precision_Y, "recall": scores.recall_Y}.items():
            whole = f"report_{name}"
            found = _over_labels(whole, values_Y, used_Y, label_names, counted)
            metrics |= {k: v for k, v in found.items() if k == whole}
        if used_Y.any():
            metrics |= _statements(mentions_NY[rows][known_R][:, finding_Y], labels_NY[rows][known_R][:, finding_Y])
        if not denies:
            metrics.pop("report_negative_precision", None)
        return metrics

    return measure


def _statements(mentions_NY: NDArray[np.int8], labels_NY: Tensor) -> Figures:
    denied_NY = mentions_NY == Mention.NEGATED
    num = max(1, len(mentions_NY))
    right = (denied_NY & (labels_NY == 0).numpy()).sum()
    return {
        "report_positive_statements": float((mentions_NY == Mention.PRESENT).sum() / num),
        "report_negative_statements": float(denied_NY.sum() / num),
        "report_negative_precision": float(right / denied_NY.sum()) if denied_NY.any() else float("nan"),
    }


def _areas(
    name: str, scores_NY: Tensor | None, labels_NY: Tensor, label_names: Sequence[str], readable: Collection[str],
    counted: Collection[str] | None,
) -> Measure:  # fmt: skip
    if scores_NY is None or not len(labels_NY):
        return lambda _: {}
    scored_Y = ~scores_NY.isnan().any(0).numpy()
    used_Y = measurable(labels_NY) & scored_Y & _among(label_names, readable)

    def measure(rows: Rows) -> Figures:
        area_Y = roc_auc(scores_NY[rows], labels_NY[rows]).numpy()
        return _over_labels(name, area_Y, used_Y, label_names, counted)

    return measure


def _among(label_names: Sequence[str], readable: Collection[str]) -> NDArray[np.bool_]:
    return np.array([name in readable for name in label_names], bool)


def _over_labels(
    name: str, value_Y: NDArray[np.float64], use_Y: NDArray[np.bool_], label_names: Sequence[str],
    counted: Collection[str] | None,
) -> Figures:  # fmt: skip
    """Mean over the labels in use that are counted, and the value of each in use; NaN where undefined for these
    rows."""
    each = {label: float(v) for label, v, use in zip(label_names, value_Y, use_Y, strict=True) if use}
    meant = [value for label, value in each.items() if counted is None or label in counted]
    mean = {name: sum(meant) / len(meant)} if meant else {}
    return mean | {f"{name}/{label}": value for label, value in each.items()}


def measured_labels(name: str, metrics: Figures) -> list[str]:
    """Labels of which `metrics` has that metric."""
    return [key.removeprefix(f"{name}/") for key in metrics if key.startswith(f"{name}/")]


def _labels_in(metrics: Figures) -> list[str]:
    return list(dict.fromkeys(label for name in metrics for _, slash, label in [name.partition("/")] if slash))
