"""From what a user asks for to a plan: labels and conditions that are fixed, in turn, listed, or drawn.

What is not asked for is drawn as the training images have it, so that conditions keep the company that labels have.

Shapes: L labels, Y labels and columns of conditions, K distinct vectors, T turns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from emixer.errors import ConfigError
from emixer.generation.label_names import label_vector
from emixer.generation.plan_kinds import BalancedPlan, CompletedPlan, LabelPlan, Labels, ListedPlan, Prior, TrainPlan
from emixer.generation.plan_table import named_conditions, read_plan
from emixer.models.paired_model import ModelSpec


@dataclass(frozen=True)
class _Wanted:
    """What is asked for beside labels."""

    plan: str = "train"
    conditions: Mapping[str, str | int] = field(default_factory=dict)
    """Of every row."""
    balance_by: Sequence[str] = ()
    """Conditions whose values take turns."""


def make_plan(
    plan: str, labels: Sequence[str], spec: ModelSpec, seed: int, conditions: Mapping[str, str | int] | None = None,
    balance_by: Sequence[str] = (),
) -> LabelPlan:  # fmt: skip
    """The plan that the settings of `generate` name: plan, labels, balance_by, and sex, age and view (`conditions`).

    Raises ConfigError for an unknown label or value, a plan that is neither a name nor a file, a CSV that cannot be
    used, what no training image has, and wishes that exclude each other.
    """
    wanted = _Wanted(plan, conditions or {}, balance_by)
    _check(wanted, labels, spec)
    fixed_C = spec.conditions.vector(wanted.conditions)
    if labels:
        return fixed_plan(labels, spec, seed, wanted.conditions, balance_by)
    if wanted.plan in ("train", "balanced"):
        prior = _restricted(prior_of(spec), fixed_C, wanted)
        if wanted.plan == "train" and not wanted.balance_by:
            drawn = TrainPlan(prior, seed)
            told = _told(wanted.conditions)
            return replace(drawn, description=f"{drawn.description}, {told} in every row") if told else drawn
        return _balanced(wanted, spec, prior, seed)
    path = Path(wanted.plan)
    if not path.is_file():
        raise ConfigError(
            f"generate.plan={wanted.plan} is neither `train` nor `balanced` nor a file. Give one of the two names, or "
            "a CSV file with one 0/1 column per label."
        )
    listed = read_plan(path, spec.label_names, spec.conditions)
    twice = named_conditions(path, spec.conditions) & set(wanted.conditions)
    if twice:
        raise ConfigError(f"{min(twice)} is set, but {path} also has a column for it. Remove one of them.")
    listed.vectors_KY[:, spec.num_labels :] |= fixed_C
    return completed(listed, spec, seed)


def fixed_plan(
    labels: Sequence[str], spec: ModelSpec, seed: int, conditions: Mapping[str, str | int],
    balance_by: Sequence[str] = (),
) -> LabelPlan:  # fmt: skip
    """The same labels in every row. Raises ConfigError for a name or value the model does not know."""
    wanted = _Wanted("train", conditions, balance_by)
    labels_L = label_vector(labels, spec.label_names)
    described = ", ".join([*(labels or ["no label"]), *([_told(conditions)] if conditions else [])])
    turns_TC = _turns_of(wanted, spec, prior_of(spec)) | spec.conditions.vector(wanted.conditions)
    vectors_TY = np.concatenate([np.tile(labels_L, (len(turns_TC), 1)), turns_TC], axis=1)
    told = f", each {' and '.join(wanted.balance_by)} in turn" if wanted.balance_by else ""
    listed = ListedPlan(vectors_TY, np.ones(len(turns_TC), np.int64), f"{described} in every row{told}", None)
    return completed(listed, spec, seed)


def completed(listed: ListedPlan, spec: ModelSpec, seed: int) -> LabelPlan:
    """A list of the model's vectors, with conditions that rows leave open drawn."""
    spans = [
        (spec.num_labels + span.start, spec.num_labels + span.stop) for span in spec.conditions.column_slices.values()
    ]
    if all(listed.vectors_KY[:, first:end].any(axis=1).all() for first, end in spans):
        return listed
    return CompletedPlan(listed, prior_of(spec), tuple(spans), seed)


def prior_of(spec: ModelSpec) -> Prior:
    """What training images have."""
    vectors_KY = np.array(spec.label_vectors, np.uint8).reshape(-1, spec.num_labels + spec.num_conditions)
    return Prior(vectors_KY, np.array(spec.label_counts, np.int64))


def _check(wanted: _Wanted, labels: Sequence[str], spec: ModelSpec) -> None:
    if labels and wanted.plan != "train":
        raise ConfigError(f"generate.labels and generate.plan={wanted.plan} are both set. Set only one.")
    if wanted.balance_by and wanted.plan not in ("train", "balanced"):
        raise ConfigError(
            f"generate.balance_by is set, but generate.plan={wanted.plan} lists every row. Remove one of them."
        )
    for name in wanted.balance_by:
        spec.conditions.values_of(name)
        if name in wanted.conditions:
            raise ConfigError(f"generate.{name} fixes what generate.balance_by={name} alternates. Set only one.")


def _told(conditions: Mapping[str, str | int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in conditions.items())


def _restricted(prior: Prior, fixed_C: Labels, wanted: _Wanted) -> Prior:
    """Only vectors with those conditions."""
    if not fixed_C.any():
        return prior
    fixed_Y = np.concatenate([np.zeros(prior.vectors_KY.shape[1] - len(fixed_C), np.uint8), fixed_C])
    may_K = prior.carrying(fixed_Y)
    if not may_K.any():
        raise ConfigError(
            f"No training image has {_told(wanted.conditions)} together, so there are no labels to sample. "
            "Also set generate.labels, or remove one condition."
        )
    return Prior(prior.vectors_KY[may_K], prior.counts_K[may_K])


def _turns_of(wanted: _Wanted, spec: ModelSpec, prior: Prior) -> Labels:
    """Columns of conditions (T, C) of each turn: the values of `balance_by` that images have together. One turn of none
    where nothing takes turns."""
    if not wanted.balance_by:
        return np.zeros((1, spec.num_conditions), np.uint8)
    is_asked_C = np.zeros(spec.num_conditions, bool)
    for name in wanted.balance_by:
        is_asked_C[spec.conditions.column_slices[name]] = True
    turns_TC: Labels = np.unique(prior.vectors_KY[:, spec.num_labels :] * is_asked_C, axis=0)
    is_known_T = turns_TC.sum(axis=1) == len(wanted.balance_by)
    if not is_known_T.any():
        also = f" of {_told(wanted.conditions)}" if wanted.conditions else ""
        raise ConfigError(
            f"No training image{also} has a known {' and '.join(wanted.balance_by)} to balance by. "
            "Unset generate.balance_by, or name fewer conditions, each once."
        )
    found_TC: Labels = turns_TC[is_known_T]
    return found_TC


def _balanced(wanted: _Wanted, spec: ModelSpec, prior: Prior, seed: int) -> LabelPlan:
    """Labels in turn, conditions in turn, or both: then all labels of one combination, then those of the next."""
    turns_TC = _turns_of(wanted, spec, prior)
    if wanted.plan == "balanced" and not prior.vectors_KY[:, : spec.num_labels].any():
        raise ConfigError("generate.plan=balanced needs labels, but no training image has one. Use plan=train.")
    labels_TL = np.eye(spec.num_labels, dtype=np.uint8)
    if wanted.plan == "train":
        labels_TL = np.zeros((1, spec.num_labels), np.uint8)
    wanted_TY = np.array([[*labels, *conditions] for conditions in turns_TC for labels in labels_TL], np.uint8)
    # What no training image has gets no turn
    wanted_TY = wanted_TY[[bool(prior.carrying(wanted_Y).any()) for wanted_Y in wanted_TY]]
    if not len(wanted_TY):
        raise ConfigError(
            f"No training image with a label has a known {' and '.join(wanted.balance_by)} to balance by. "
            "Use plan=train, or unset generate.balance_by."
        )
    in_turn = [*(["label"] if wanted.plan == "balanced" else []), *wanted.balance_by]
    described = f"each {' and '.join(in_turn)} in turn, with the company it keeps in the training images"
    if wanted.conditions:
        described += f", {_told(wanted.conditions)} in every row"
    return BalancedPlan(prior, wanted_TY, seed, described)
