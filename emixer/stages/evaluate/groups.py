"""`emixer evaluate --by sex,age,view`: the same figures for each group of images, generated and real.

A mean over labels is comparable between groups only if taken over the same labels, so it covers those that can be
measured in every group, on both sides. Groups with too few images are counted but not measured. A judge fitted on real
train images measures whether images show their group at all.

Shapes: N images, C columns of conditions, L labels, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emixer.data.conditions import Columns, Conditions
from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.evaluation.label_faithfulness import LabelJudge
from emixer.evaluation.pair_metrics import Report, agreement, faithfulness, label_aucs
from emixer.evaluation.report_mentions import mentions
from emixer.evaluation.resampling import Figures
from emixer.evaluation.spread import spread_rows
from emixer.stages.evaluate.intervals import Measured, SideBySide, side_by_side, with_intervals

MIN_IMAGES_A_GROUP = 20
"""Minimum number of images, on the generated and on the real side, for a group to be measured."""


@dataclass(frozen=True)
class Side:
    """Images of one side, with their reports."""

    features_NF: Tensor
    columns_NC: Columns
    """Columns of the conditions by which figures are split."""
    labels_NL: Tensor
    scores_NL: Tensor
    """Scores of the label judge."""
    reports: Sequence[Report | None]
    subjects: Sequence[str]


@dataclass(frozen=True)
class Split:
    """Sides to split into groups, and the conditions that define the groups."""

    conditions: Conditions
    label_names: tuple[str, ...]
    sides: Mapping[str, Side]
    """`generated` and `real`."""
    sample_NF: Tensor
    """Features of train images, which stand for a perfect generator ..."""
    sample_NC: Columns
    """... and their groups."""
    resamples: int


def by_groups(split: Split) -> dict[str, Any]:
    """For each condition: the labels that each mean is taken over, the number of images without a known group, and for
    each group its numbers of images, figures and intervals (`too_few` if not measured), and under `shown` the AUC of a
    judge that separates it from the others."""
    content = {}
    for (name, span), values in zip(split.conditions.column_slices.items(), split.conditions.values, strict=True):
        rows = {
            value: {kind: np.flatnonzero(side.columns_NC[:, span.start + place]) for kind, side in split.sides.items()}
            for place, value in enumerate(values)
        }
        large = {value: of for value, of in rows.items() if min(map(len, of.values())) >= MIN_IMAGES_A_GROUP}
        measured = _measured(split, large)
        shown = {kind: _shown(split, kind, span, values) for kind in split.sides}
        groups: dict[str, Any] = {}
        for place, value in enumerate(values):
            groups[value] = {
                "images": {kind: len(of) for kind, of in rows[value].items()},
                "shown": {kind: areas[value] for kind, areas in shown.items() if value in areas},
            }
            if value in large:
                sample_N = np.flatnonzero(split.sample_NC[:, span.start + place])
                groups[value] |= _distances(split, large[value], sample_N)
                groups[value] |= {kind: measured.figures[value, kind] for kind in split.sides}
                groups[value]["intervals"] = {kind: measured.intervals[value, kind] for kind in split.sides}
            else:
                groups[value]["too_few"] = MIN_IMAGES_A_GROUP
        unknown = {kind: int((side.columns_NC[:, span] == 0).all(axis=1).sum()) for kind, side in split.sides.items()}
        content[name] = {"means_over": measured.means_over, "not_known": unknown, "groups": groups}
    return content


def _shown(split: Split, kind: str, span: slice, values: Sequence[str]) -> dict[str, dict[str, Any]]:
    """AUC and interval of a linear judge for each value that can be measured, on images whose value is known."""
    side, learned_NC = split.sides[kind], split.sample_NC[:, span]
    learned_N, known_N = (np.flatnonzero(columns_NC.any(1)) for columns_NC in (learned_NC, side.columns_NC[:, span]))
    if len(learned_N) < MIN_IMAGES_A_GROUP or not len(known_N):
        return {}
    judge = LabelJudge.fit(split.sample_NF[learned_N], torch.from_numpy(learned_NC[learned_N]).float())
    scores_NC = judge.score(side.features_NF[known_N])
    columns_NC = torch.from_numpy(side.columns_NC[known_N, span]).float()
    subjects = [side.subjects[n] for n in known_N.tolist()]
    figures, spread = with_intervals(label_aucs(scores_NC, columns_NC, values), subjects, split.resamples)
    names = {value: f"label_auc/{value}" for value in values}
    return {
        value: {"auc": figures[name], "interval": spread.get(name)} for value, name in names.items() if name in figures
    }  # fmt: skip


def _distances(split: Split, rows: Mapping[str, NDArray[np.int64]], sample_N: NDArray[np.int64]) -> Figures:
    """Fréchet distances from the real images of a group, at equal numbers of images: they fall with the number."""
    num = min(len(rows["real"]), len(rows["generated"]), len(sample_N))
    if num < MIN_IMAGES_A_GROUP:
        return {}
    sides = [(split.sides[kind].features_NF, rows[kind]) for kind in ("real", "generated")]
    of_real, of_generated, of_sample = (
        FeatureStatistics.of(features_NF[rows_N[spread_rows(len(rows_N), num)]])
        for features_NF, rows_N in (*sides, (split.sample_NF, sample_N))
    )
    return {
        "fid": frechet_distance(of_real, of_generated), "real_fid": frechet_distance(of_real, of_sample),
        "fid_images": float(num),
    }  # fmt: skip


def _measured(split: Split, groups: Mapping[str, Mapping[str, NDArray[np.int64]]]) -> SideBySide[tuple[str, str]]:
    """Figures of each group and side, with means over the labels that can be measured in all of them."""
    kinds: dict[str, dict[tuple[str, str], Measured]] = {"label_auc": {}, "pair_agreement": {}, "report_f1": {}}
    names = split.label_names
    for value, rows in groups.items():
        for kind, side in split.sides.items():
            rows_N, key = rows[kind], (value, kind)
            stated_NL = mentions((side.reports[n] or [] for n in rows_N), names)
            tells_N = np.array([bool(side.reports[n]) for n in rows_N], bool)
            # an empty generated report states none of its labels; a real image may have no report to judge
            judged_N = tells_N | (kind == "generated")
            kinds["label_auc"][key] = Measured(
                partial(label_aucs, side.scores_NL[rows_N], side.labels_NL[rows_N], names),
                [side.subjects[n] for n in rows_N],
            )
            kinds["pair_agreement"][key] = Measured(
                partial(agreement, side.scores_NL[rows_N[tells_N]], stated_NL[tells_N], names),
                [side.subjects[n] for n in rows_N[tells_N]],
            )
            kinds["report_f1"][key] = Measured(
                partial(faithfulness, stated_NL[judged_N], side.labels_NL[rows_N[judged_N]], names),
                [side.subjects[n] for n in rows_N[judged_N]],
            )
    return side_by_side(kinds, split.resamples)
