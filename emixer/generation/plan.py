"""Label plans: which labels row i of a dataset carries, as a pure function of i.

A plan answers for any row, also beyond the last one asked for, so that the padding of the last block is what a longer
dataset would hold there.

Shapes: N rows, K distinct label vectors, Y labels.
Source: not in the paper, which draws y from the training distribution.
"""

import csv
import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emixer.errors import ConfigError
from emixer.models.paired_model import ModelSpec

Labels = NDArray[np.uint8]
_COUNT = "count"
_WORDS_A_COUNTER = 4  # Philox yields four 64-bit words for each value of its counter


class LabelPlan(Protocol):
    """Labels by row."""

    @property
    def description(self) -> str:
        """One line for people."""

    @property
    def num_rows(self) -> int | None:
        """Rows the plan lists, if it lists any."""

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """uint8 (num_rows, Y), 1 present, of rows [first_row, first_row + num_rows)."""


@dataclass(frozen=True)
class TrainPlan:
    """Vectors drawn from the joint label distribution of the training films."""

    vectors_KY: Labels
    counts_K: NDArray[np.int64]
    seed: int
    num_rows: None = None
    description: str = "the joint label distribution of the training films"

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """Inverse transform of one uniform number a row."""
        cumulative_K = self.counts_K.cumsum()
        drawn_N = (_uniform(self.seed, first_row, num_rows) * cumulative_K[-1]).astype(np.int64)
        return _picked(self.vectors_KY, np.searchsorted(cumulative_K, drawn_N, side="right"))


@dataclass(frozen=True)
class BalancedPlan:
    """Label i mod (number of labels) is present in row i; its companions are drawn as the training films have them."""

    vectors_KY: Labels
    counts_K: NDArray[np.int64]
    seed: int
    num_rows: None = None
    description: str = "each label in turn, with the company it keeps in the training films"

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """Inverse transform within the films that carry the row's label. A label that no film carries has no turn."""
        carried_YK = self.vectors_KY.T * self.counts_K
        carried_YK = carried_YK[carried_YK.any(axis=1)]
        totals_Y = carried_YK.sum(axis=1)
        turn_N = np.arange(first_row, first_row + num_rows) % len(totals_Y)
        drawn_N = (_uniform(self.seed, first_row, num_rows) * totals_Y[turn_N]).astype(np.int64)
        # one ascending scale for all labels: label y owns [sum of the totals before it, + its own)
        start_Y = totals_Y.cumsum() - totals_Y
        picked_N = np.searchsorted(carried_YK.ravel().cumsum(), start_Y[turn_N] + drawn_N, side="right")
        return _picked(self.vectors_KY, picked_N % len(self.vectors_KY))


@dataclass(frozen=True)
class ListedPlan:
    """Given vectors, each so many times, in order; after the last one it starts again."""

    vectors_KY: Labels
    counts_K: NDArray[np.int64]
    description: str
    num_rows: int | None

    def labels(self, first_row: int, num_rows: int) -> Labels:
        """The list, read in a circle."""
        cumulative_K = self.counts_K.cumsum()
        place_N = np.arange(first_row, first_row + num_rows) % cumulative_K[-1]
        return _picked(self.vectors_KY, np.searchsorted(cumulative_K, place_N, side="right"))


def make_plan(plan: str, labels: Sequence[str], spec: ModelSpec, seed: int) -> LabelPlan:
    """The plan that the settings `generate.plan` and `generate.labels` name.

    Raises ConfigError for an unknown label, a plan that is neither a name nor a file, or a CSV that cannot be used.
    """
    if labels:
        if plan != "train":
            raise ConfigError(f"generate.labels and generate.plan={plan} are both set. Give one of the two.")
        return fixed_plan(labels, spec)
    vectors_KY = np.array(spec.label_vectors, np.uint8).reshape(-1, len(spec.label_names))
    counts_K = np.array(spec.label_counts, np.int64)
    if plan == "train":
        return TrainPlan(vectors_KY, counts_K, seed)
    if plan == "balanced":
        if not vectors_KY.any():
            raise ConfigError("generate.plan=balanced needs labels, but no training film carries one. Use plan=train.")
        return BalancedPlan(vectors_KY, counts_K, seed)
    if not Path(plan).is_file():
        raise ConfigError(
            f"generate.plan={plan} is neither `train` nor `balanced` nor a file. Give one of the two names, or a CSV "
            "file with a column of 0/1 a label."
        )
    return read_plan(Path(plan), spec.label_names)


def fixed_plan(labels: Sequence[str], spec: ModelSpec) -> ListedPlan:
    """The same labels in every row. Raises ConfigError for a name the model does not know."""
    vector_Y = label_vector(labels, spec.label_names)
    described = ", ".join(labels) or "no label"
    return ListedPlan(vector_Y[None], np.ones(1, np.int64), f"{described} in every row", None)


def label_vector(labels: Sequence[str], label_names: Sequence[str]) -> Labels:
    """uint8 (Y), 1 for each of `labels`. Raises ConfigError, with the nearest name, for one that does not exist."""
    for label in labels:
        if label not in label_names:
            raise ConfigError(f"The model knows no label {label!r}.{_did_you_mean(label, label_names)}")
    return np.array([name in labels for name in label_names], np.uint8)


def read_plan(path: Path, label_names: Sequence[str]) -> ListedPlan:
    """Reads a CSV plan: a column of 0/1 for each label (absent columns: 0) and optionally `count`, the rows to make.

    Raises ConfigError naming the line and column at fault.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _check_header(header, label_names, path)
            rows = [_read_row(values, header, path, reader.line_num) for values in reader if values]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"The label plan {path} cannot be read as CSV: {error}.") from error
    table = np.array(rows, np.int64).reshape(len(rows), len(header))
    counts_K = table[:, header.index(_COUNT)] if _COUNT in header else np.ones(len(rows), np.int64)
    if not counts_K.sum():
        raise ConfigError(f"The label plan {path} lists no rows. Give at least one, or use plan=train.")
    vectors_KY = np.zeros((len(rows), len(label_names)), np.uint8)
    for column, name in enumerate(header):
        if name != _COUNT:
            vectors_KY[:, list(label_names).index(name)] = table[:, column]
    return ListedPlan(vectors_KY, counts_K, f"the {counts_K.sum():,} rows listed in {path.name}", int(counts_K.sum()))


def plan_digest(plan: LabelPlan) -> str:
    """What tells two plans apart: a hash of their contents, not of where they were read from."""
    parts: list[Any] = [type(plan).__name__]
    parts += [getattr(plan, name).tobytes() for name in ("vectors_KY", "counts_K")]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
    return digest.hexdigest()[:16]


def _check_header(header: list[str], label_names: Sequence[str], path: Path) -> None:
    for name in header:
        if name != _COUNT and name not in label_names:
            hint = _did_you_mean(name, (*label_names, _COUNT))
            raise ConfigError(f"The label plan {path} has a column {name!r}, which is no label of the model.{hint}")
        if header.count(name) > 1:
            raise ConfigError(f"The label plan {path} has the column {name!r} twice. Keep one of them.")
    if not set(header) - {_COUNT}:
        raise ConfigError(
            f"The label plan {path} names no label in its first line. Expected a header such as "
            f"`{label_names[0]},{_COUNT}`; the model's labels are {', '.join(label_names)}."
        )


def _read_row(values: list[str], header: list[str], path: Path, line: int) -> list[int]:
    if len(values) != len(header):
        raise ConfigError(
            f"The label plan {path} has {len(values)} values in line {line}; its header has {len(header)}."
        )
    row = []
    for name, text in zip(header, (value.strip() for value in values), strict=True):
        if not (text.isdecimal() if name == _COUNT else text in ("0", "1")):
            expected = "a whole number" if name == _COUNT else "0 or 1"
            raise ConfigError(
                f"The label plan {path} has {text!r} in line {line}, column {name!r}. Expected {expected}."
            )
        row.append(int(text))
    return row


def _did_you_mean(name: str, valid: Sequence[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in valid}
    near = difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)
    if near:
        return f" Did you mean {' or '.join(lower[candidate] for candidate in near)}?"
    return f" It knows {', '.join(valid)}."


def _picked(vectors_KY: Labels, index_N: NDArray[np.int64]) -> Labels:
    picked_NY: Labels = vectors_KY[index_N]
    return picked_NY


def _uniform(seed: int, first_row: int, num_rows: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), one for each row, by random access into one Philox stream."""
    counter, skip = divmod(first_row, _WORDS_A_COUNTER)
    words: NDArray[np.uint64] = np.random.Philox(key=seed, counter=counter).random_raw(skip + num_rows)[skip:]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
