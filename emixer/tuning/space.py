"""What is searched: dotted config keys with ranges, as distributions of Optuna."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from emixer.config import Config, with_overrides
from emixer.config.load import read_value, require_key
from emixer.errors import ConfigError

Space = Mapping[str, BaseDistribution]
Values = Mapping[str, Any]
"""By dotted key."""


def parse_space(lines: Sequence[str], config: Config) -> Space:
    """Reads lines of `tune.space`.

    Raises ConfigError for an unknown key, an empty or inverted range, or a value that the key does not take.
    """
    space: dict[str, BaseDistribution] = {}
    for line in lines:
        key, distribution = _parse(line)
        require_key(key, f"tune.space: {line!r}")
        if key in space:
            raise ConfigError(f"tune.space names {key} twice.")
        _require_ends_to_be_valid(line, key, distribution, config)
        space[key] = distribution
    return space


def values_of(config: Config, space: Space) -> dict[str, Any] | None:
    """The config's own values as a point of the space; None where it lies outside."""
    tree, point = config.model_dump(mode="json"), {}
    for key, distribution in space.items():
        value = _at(tree, key)
        if isinstance(distribution, CategoricalDistribution):
            inside = value in distribution.choices
        else:
            assert isinstance(distribution, FloatDistribution | IntDistribution)
            inside = value is not None and distribution.low <= value <= distribution.high
        if not inside:
            return None
        point[key] = value
    return point


def _parse(line: str) -> tuple[str, BaseDistribution]:
    key, *rest = line.split()
    if len(rest) < 2:
        raise ConfigError(f"tune.space: {line!r} is not KEY KIND ..., e.g. `loss.alpha float 0 1`.")
    kind, *given = rest
    values = [read_value(text) for text in given]
    if kind == "choice":
        if len(values) != len({repr(v) for v in values}):
            raise ConfigError(f"tune.space: {line!r} names a choice twice.")
        return key, CategoricalDistribution(values)
    if kind not in ("float", "log", "int"):
        raise ConfigError(f"tune.space: {line!r} has the kind {kind!r}; choose float, log, int or choice.")
    wanted = int if kind == "int" else (int, float)
    if len(values) != 2 or not all(isinstance(v, wanted) and not isinstance(v, bool) for v in values):
        numbers = "two whole numbers" if kind == "int" else "two numbers"
        raise ConfigError(f"tune.space: {line!r} needs {numbers}, the lowest and the highest.")
    low, high = values
    if low >= high:
        raise ConfigError(
            f"tune.space: {line!r} is {'empty' if low == high else 'inverted'}: {low} is not below {high}."
        )
    if kind == "log" and low <= 0:
        raise ConfigError(f"tune.space: {line!r}: a logarithmic range begins above 0, not at {low}.")
    if kind == "int":
        return key, IntDistribution(low, high)
    return key, FloatDistribution(float(low), float(high), log=kind == "log")


def _require_ends_to_be_valid(line: str, key: str, distribution: BaseDistribution, config: Config) -> None:
    if isinstance(distribution, CategoricalDistribution):
        ends: Sequence[Any] = distribution.choices
    else:
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        ends = (distribution.low, distribution.high)
    for value in ends:
        try:
            with_overrides(config, {key: value})
        except ConfigError as error:
            said = error.message.splitlines()[-1].strip()
            raise ConfigError(f"tune.space: {line!r} goes where the setting does not: {said}") from error


def _at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def written(values: Values) -> str:
    """For a table: `lr_generator 5e-05, alpha 0.2`."""
    return ", ".join(f"{key.rpartition('.')[2]} {_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
