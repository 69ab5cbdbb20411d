"""The part of an audit that measures what a dataset discloses of people's sex and age."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emixer.audit.attributes import MIN_KNOWN, People, disclosure
from emixer.audit.matching import SPACES, Matches
from emixer.data.conditions import AGE, SEX, Conditions
from emixer.data.known_of_images import column_of, values_in
from emixer.stages.audit.sides import GeneratedSide, RealSide

Rows = NDArray[np.int64]


def attribute_figures(
    made: GeneratedSide, sides: Sequence[tuple[RealSide, Rows, Matches]], num_resamples: int
) -> dict[str, Any]:
    """Figures by attribute, then by space; `not_measured` with the reason if they cannot be measured.

    sides: the training and the held-out images, with the generated ones nearest to them.
    """
    conditions = Conditions.from_json(made.manifest.get("conditions"))
    return {name: _figures(name, conditions, made, sides, num_resamples) for name in (SEX, AGE)}


def _figures(
    name: str, conditions: Conditions, made: GeneratedSide, sides: Sequence[tuple[RealSide, Rows, Matches]],
    num_resamples: int,
) -> dict[str, Any]:  # fmt: skip
    if name not in conditions.names:
        return {"not_measured": f"the dataset has no column {name}: its model is not conditioned on it."}
    if any(column_of(name) not in side.shards.info.arrow_schema().names for side, _, _ in sides):
        return {"not_measured": f"the shards have no column {column_of(name)}."}
    told = made.column(name).to_numpy(zero_copy_only=False)
    found: dict[str, Any] = {}
    for space in SPACES:
        train, held_out = (_people(name, conditions, told, space, *side) for side in sides)
        measured = disclosure(train, held_out, told, num_resamples)
        if measured is None:
            return {"not_measured": f"{name} is known of fewer than {MIN_KNOWN} images of a side."}
        found[space] = measured
    return found


def _people(
    name: str, conditions: Conditions, told: NDArray[Any], space: str, side: RealSide, rows: Rows, nearest: Matches
) -> People:
    column = column_of(name)
    table = pa.table({column: side.column(column).take(rows)})
    truth = values_in(table, name, conditions.age_bounds).to_numpy(zero_copy_only=False)
    return People(truth, told[nearest.row(space)], side.subjects()[rows].tolist())
