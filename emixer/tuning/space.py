"""The search space: dotted config keys with ranges, as Optuna distributions."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from emixer.config import Config
from emixer.config.tree import value_at
from emixer.tuning.space_syntax import SpaceLine, read_space

Space = Mapping[str, BaseDistribution]
Values = Mapping[str, Any]
"""Values by dotted key."""


def parse_space(lines: Sequence[str], config: Config) -> Space:
    """Parse lines of `tune.space`. Raises ConfigError, see `read_space`."""
    return {line.key: _distribution(line) for line in read_space(lines, config)}


def values_of(config: Config, space: Space) -> dict[str, Any] | None:
    """Return the config's own values as a point of the space; None if it lies outside."""
    tree, point = config.model_dump(mode="json"), {}
    for key, distribution in space.items():
        value = value_at(tree, key)
        if isinstance(distribution, CategoricalDistribution):
            inside = value in distribution.choices
        else:
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            inside = value is not None and distribution.low <= value <= distribution.high
            inside = inside and (isinstance(distribution, FloatDistribution) or value == int(value))
        if not inside:
            return None
        point[key] = value
    return point


def _distribution(line: SpaceLine) -> BaseDistribution:
    if line.kind == "choice":
        return CategoricalDistribution(line.values)
    low, high = line.values
    return IntDistribution(low, high) if line.kind == "int" else FloatDistribution(low, high, log=line.kind == "log")


def written(values: Values) -> str:
    """Format values for a table: `lr_generator 5e-05, alpha 0.2`."""
    return ", ".join(f"{key.rpartition('.')[2]} {_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
