"""Sex, age group and view of images as shards have them, and which of their values a model can be conditioned on."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emixer.data.conditions import AGE, Columns, Conditions, age_groups
from emixer.data.shards import ShardSet
from emixer.errors import ShardError

_COLUMN = {AGE: "age_years"}
"""The shards' column of a condition, where its name is another."""


def column_of(name: str) -> str:
    """The shards' column that a condition is read from."""
    return _COLUMN.get(name, name)


def values_in(table: pa.Table, name: str, age_bounds: Sequence[int]) -> pa.Array:
    """Values of a condition as text, null where it is not known."""
    column = table[column_of(name)].combine_chunks()
    if name != AGE:
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    known = column.is_valid().to_numpy(zero_copy_only=False)
    group = np.searchsorted(age_bounds, column.fill_null(0).to_numpy(), side="right")
    return pa.array(age_groups(age_bounds)).take(pa.array(group, mask=~known))


def columns_in(table: pa.Table, conditions: Conditions) -> Columns:
    """Columns uint8 (N, C) of the conditions; a value that they do not have is as unknown as none."""
    told = {name: values_in(table, name, conditions.age_bounds) for name in conditions.names}
    return columns_of_values(pa.table({**told, "row": pa.nulls(table.num_rows)}), conditions)


def columns_of_values(table: pa.Table, conditions: Conditions) -> Columns:
    """The same of a table that has the values themselves, in columns named as the conditions are."""
    columns_NC = np.zeros((table.num_rows, conditions.num_columns), np.uint8)
    for (name, span), values in zip(conditions.column_slices.items(), conditions.values, strict=True):
        place = pc.index_in(table[name].combine_chunks(), value_set=pa.array(values))
        rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        columns_NC[rows, span.start + place.drop_null().to_numpy()] = 1
    return columns_NC


def find_conditions(shards: ShardSet, names: Sequence[str], age_bounds: Sequence[int]) -> Conditions:
    """Those conditions with the values that training images have.

    Raises ShardError where the shards do not know one of them of any training image.
    """
    if not names:
        return Conditions()
    there = shards.info.arrow_schema().names
    missing = [name for name in names if column_of(name) not in there]
    values = [] if missing else [_values_of_train(shards, name, age_bounds) for name in names]
    missing += [name for name, found in zip(names, values, strict=False) if not found]
    if missing:
        raise ShardError(
            f"model.conditions names {' and '.join(missing)}, which no training image in {shards.folder} has. Remove "
            "it, or ingest the collection again with that information (docs/data.md)."
        )
    return Conditions(tuple(names), tuple(values), tuple(age_bounds) if AGE in names else ())


def _values_of_train(shards: ShardSet, name: str, age_bounds: Sequence[int]) -> tuple[str, ...]:
    found: set[str] = set()
    for file in shards.files("train"):
        column = values_in(pq.read_table(file, columns=[column_of(name)]), name, age_bounds)
        found |= set(pc.unique(column.drop_null()).to_pylist())
    order = age_groups(age_bounds) if name == AGE else sorted(found)
    return tuple(value for value in order if value in found)
