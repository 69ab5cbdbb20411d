"""A plan as a CSV file: a column of 0/1 for each label, perhaps one for each condition, perhaps `count`."""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emixer.data.conditions import Conditions
from emixer.errors import ConfigError
from emixer.generation.label_names import did_you_mean
from emixer.generation.plan_kinds import ListedPlan

_COUNT = "count"
_SHOWN_LENGTH = 12
"""Of a cell: another table, of patients say, may have been given by mistake."""
_NEAR = 0.75
"""How near a column's name must be to a label's to be shown."""
_MAX_ROWS = 10**12
"""More than any disk holds; beyond 64 bits numbers of rows would wrap around."""


def read_plan(path: Path, label_names: Sequence[str], conditions: Conditions) -> ListedPlan:
    """Reads a CSV plan: 0/1 for each label (absent columns: 0), a value for each condition (absent columns and blank
    cells: left open), and optionally `count`, the rows to make.

    Raises ConfigError naming the line and column at fault.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _check_header(header, label_names, conditions, path)
            rows = [
                _read_row(values, header, label_names, conditions, path, reader.line_num) for values in reader if values
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"The label plan {path} cannot be read as CSV: {error}.") from error
    num_rows = sum(count for count, _ in rows)
    if not 0 < num_rows <= _MAX_ROWS:
        listed = f"{num_rows:,} rows, more than {_MAX_ROWS:,}" if num_rows else "no rows"
        raise ConfigError(f"The label plan {path} lists {listed}. Correct its column {_COUNT}, or use plan=train.")
    counts_K = np.array([count for count, _ in rows], np.int64)
    vectors_KY = np.stack([vector_Y for _, vector_Y in rows])
    return ListedPlan(vectors_KY, counts_K, f"the {num_rows:,} rows listed in {path.name}", num_rows)


def named_conditions(path: Path, conditions: Conditions) -> set[str]:
    """Conditions that a CSV plan has a column of."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {name.strip() for name in next(csv.reader(file), [])} & set(conditions.names)


def _check_header(header: list[str], label_names: Sequence[str], conditions: Conditions, path: Path) -> None:
    valid = (*label_names, *conditions.names, _COUNT)
    for name in header:
        if name not in valid:
            raise ConfigError(_unknown(header, name, valid, path))
        if header.count(name) > 1:
            raise ConfigError(f"The label plan {path} has the column {name!r} twice. Keep one of them.")
    if not set(header) - {_COUNT}:
        raise ConfigError(
            f"The label plan {path} names no label in its first line. Expected a header such as "
            f"`{label_names[0]},{_COUNT}`; the model's labels are {', '.join(label_names)}."
        )


def _unknown(header: list[str], name: str, valid: Sequence[str], path: Path) -> str:
    """The message about a column that is no label. It shows its name only where another name is near: the first line
    may be anything, a patient's row included."""
    hint = did_you_mean(name, valid)
    if len(header) == 1 and (";" in name or "\t" in name):
        return f"The label plan {path} has no commas in its first line. Separate columns by commas."
    if not name:
        return (
            f"The label plan {path} has a column without a name. Remove it; pandas writes none with "
            "to_csv(..., index=False)."
        )
    if difflib.get_close_matches(name.lower(), [each.lower() for each in valid], n=1, cutoff=_NEAR):
        return f"The label plan {path} has a column {name!r}, which is not a label of the model.{hint}"
    return (
        f"Column {header.index(name) + 1} of the label plan {path} is not a label of the model: its first line must "
        f"name labels.{hint}"
    )


def _read_row(
    values: list[str], header: list[str], label_names: Sequence[str], conditions: Conditions, path: Path, line: int
) -> tuple[int, np.ndarray]:
    """How often the row is made, and its vector."""
    if len(values) != len(header):
        raise ConfigError(
            f"The label plan {path} has {len(values)} values in line {line}; its header has {len(header)}."
        )
    row = dict(zip(header, (value.strip() for value in values), strict=True))
    given: dict[str, str | int] = {}
    for name, text in row.items():
        cell = repr(text) if len(text) <= _SHOWN_LENGTH else f"a text of {len(text)} characters"
        at = f"The label plan {path} has {cell} in line {line}, column {name!r}."
        if name in conditions.names:
            try:
                given |= {name: conditions.value(name, text)} if text else {}
            except ConfigError as error:
                raise ConfigError(f"{at} {error}") from error
        elif not (text.isdecimal() if name == _COUNT else text in ("0", "1")):
            raise ConfigError(f"{at} Expected {'a whole number' if name == _COUNT else '0 or 1'}.")
    labels_L = np.array([int(row.get(name, "0")) for name in label_names], np.uint8)
    return int(row.get(_COUNT, "1")), np.concatenate([labels_L, conditions.vector(given)])
