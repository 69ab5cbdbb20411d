"""What a model may be conditioned on beside the labels: sex, age group and view, as columns behind those of labels.

One column for each value, 1 where the image has it. A value that is not known is 0 in all of its columns, so that it
adds nothing to a projection or an embedding, neither of which has a bias here: just as labels that are not known are
left out. Ages are told in groups and not as a number: what is not known could not be told from a number of 0, an
embedding of a number can only grow or fall with it, and figures by age are given by groups in any case.

Shapes: N images, C columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from emixer.errors import ConfigError

SEX, AGE, VIEW = "sex", "age", "view"
Columns = NDArray[np.uint8]


@dataclass(frozen=True)
class Conditions:
    """Which conditions a model has, and the values of each that its training images have."""

    names: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    """Of each condition, in the order of its columns."""
    age_bounds: tuple[int, ...] = ()
    """The first age of each group but the youngest [years]."""

    @property
    def num_columns(self) -> int:
        """Columns of all conditions together."""
        return sum(map(len, self.values))

    @property
    def column_slices(self) -> dict[str, slice]:
        """The columns of each condition."""
        ends = np.cumsum([0, *map(len, self.values)]).tolist()
        return {name: slice(*both) for name, both in zip(self.names, pairwise(ends), strict=True)}

    def values_of(self, name: str) -> tuple[str, ...]:
        """Values of one condition. Raises ConfigError where the model does not have it."""
        if name not in self.names:
            known = (
                f"It is conditioned on {', '.join(self.names)}." if self.names else "It is conditioned only on labels."
            )
            raise ConfigError(
                f"The model is not conditioned on {name}. {known} Train one with {name} in model.conditions, or do not "
                f"set {name}."
            )
        return self.values[self.names.index(name)]

    def value(self, name: str, given: str | int) -> str:
        """One of `values_of(name)` from what a user gives: a value in whatever case, or an age in years.

        Raises ConfigError, with the values there are, for anything else.
        """
        valid = self.values_of(name)
        text = str(given).strip()
        if name == AGE and text.isdecimal():
            text = age_groups(self.age_bounds)[int(np.searchsorted(self.age_bounds, int(text), side="right"))]
        for value in valid:
            if value.lower() == text.lower():
                return value
        years = ", or an age in whole years that lies in one of them" if name == AGE else ""
        raise ConfigError(
            f"{name}={given!r} does not occur in the training data. Its images have {', '.join(valid)}: give one of "
            f"these{years}."
        )

    def vector(self, given: Mapping[str, str | int]) -> Columns:
        """Columns (C) of the values that are given, 0 for the others. Raises ConfigError for one that there is not."""
        vector_C = np.zeros(self.num_columns, np.uint8)
        for name, value in given.items():
            place = self.values_of(name).index(self.value(name, value))
            vector_C[self.column_slices[name].start + place] = 1
        return vector_C

    def values_in_rows(self, columns_NC: Columns) -> dict[str, NDArray[Any]]:
        """Values (N) of each condition, as text, None where none of its columns is 1."""
        found = {}
        for (name, span), values in zip(self.column_slices.items(), self.values, strict=True):
            part = columns_NC[:, span] == 1
            texts = np.array([*values, None], object)
            found[name] = texts[np.where(part.any(axis=1), part.argmax(axis=1), len(values))]
        return found

    @classmethod
    def from_json(cls, fields: Mapping[str, Any] | None) -> Self:
        """From what `dataclasses.asdict` gave, read from JSON; None, of a model without them: no conditions."""
        if not fields:
            return cls()
        return cls(
            tuple(fields["names"]), tuple(tuple(values) for values in fields["values"]), tuple(fields["age_bounds"])
        )


NO_CONDITIONS = Conditions()


def age_groups(bounds: Sequence[int]) -> tuple[str, ...]:
    """Names of the groups between bounds: (18, 40) gives 0-17, 18-39 and 40+."""
    firsts = (0, *bounds)
    return (*(f"{first}-{bound - 1}" for first, bound in zip(firsts, bounds, strict=False)), f"{firsts[-1]}+")
