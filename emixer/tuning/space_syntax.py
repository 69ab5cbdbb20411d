"""Syntax of `tune.space`. Needs neither Optuna nor torch: a login node checks it, too."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from emixer.config import Config, with_overrides
from emixer.config.load import read_value, require_key
from emixer.errors import ConfigError
from emixer.run_folder import decides

_SECTIONS = ("data", "model", "loss", "optim", "train")
_KINDS = ("float", "log", "int", "choice")
_MEASURED_WITH = ("data.uncertain", "data.labelled_fraction", "model.max_sentences", "model.max_words")
"""Settings of training with which the validation pass reads real images, too: trials with other values are measured
against other labels or words, or by a judge that has learnt from fewer images."""
_FEW = 100


@dataclass(frozen=True)
class SpaceLine:
    """`KEY KIND VALUE VALUE ...`: the minimum and the maximum, or the choices."""

    key: str
    kind: str
    values: tuple[Any, ...]

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values to check against the data before a search: the choices, or the ends; of whole numbers one more, since
        a setting that takes only multiples takes no two neighbours."""
        if self.kind != "int":
            return self.values
        low, high = self.values
        return tuple(dict.fromkeys((low, low + 1, high)))

    @property
    def checked(self) -> Sequence[Any]:
        """Values to check against the setting: as `extremes`, or all, if there are few."""
        low, high = self.values[0], self.values[-1]
        return range(low, high + 1) if self.kind == "int" and high - low < _FEW else self.extremes


def read_space(lines: Sequence[str], config: Config) -> list[SpaceLine]:
    """Parse lines of `tune.space`.

    Raises ConfigError for a key that is unknown or does not affect training, an empty or inverted range, or a value
    that the key does not accept.
    """
    found: list[SpaceLine] = []
    for text in lines:
        line = _parse(text)
        require_key(line.key, f"tune.space: {text!r}")
        _require_searchable(text, line.key, config)
        if line.key in {other.key for other in found}:
            raise ConfigError(f"tune.space names {line.key} twice.")
        for value in line.checked:
            _require_valid(text, line.key, value, config)
        found.append(line)
    return found


def ends(space: Sequence[SpaceLine], config: Config) -> Iterator[Config]:
    """Yield the config with each of the extremes, one at a time."""
    for line in space:
        for value in line.extremes:
            yield with_overrides(config, {line.key: value})


def require_prunable(config: Config) -> None:
    """Raise ConfigError if the pruner could never stop a trial, or the sampler would ignore the trials it stops."""
    tune, every = config.tune, config.train.validate_every_images
    if len(tune.metrics) > 1 or tune.pruner == "none":
        return
    before_the_last = -(-tune.budget_images // every) - 1
    if before_the_last < tune.first_rung:
        wanted = tune.first_rung + 1
        raise ConfigError(
            f"train.validate_every_images={every} gives a trial of tune.budget_images={tune.budget_images} images "
            f"{before_the_last + 1} validation pass(es), but tune.first_rung={tune.first_rung} must come before the "
            "last, so nothing can be stopped early. Validate more often, e.g. every "
            f"{max(1, tune.budget_images // max(wanted, 10))} images, or set tune.pruner=none."
        )
    if tune.sampler == "gp":
        raise ConfigError(
            f"tune.sampler=gp ignores trials that tune.pruner={tune.pruner} stops early, and would propose similar "
            "ones again. Set tune.pruner=none, or tune.sampler=tpe, which uses both."
        )


def _parse(text: str) -> SpaceLine:
    key, *rest = text.split()
    if len(rest) < 2:
        raise ConfigError(f"tune.space: {text!r} is not KEY KIND ..., e.g. `loss.alpha float 0 1`.")
    kind, *given = rest
    if kind not in _KINDS:
        raise ConfigError(f"tune.space: {text!r} has the kind {kind!r}; choose float, log, int or choice.")
    values = tuple(read_value(value) for value in given)
    if kind == "choice":
        _require_choices(text, values)
        return SpaceLine(key, kind, values)
    wanted = int if kind == "int" else (int, float)
    if len(values) != 2 or not all(isinstance(v, wanted) and not isinstance(v, bool) for v in values):
        numbers = "two whole numbers" if kind == "int" else "two numbers"
        raise ConfigError(f"tune.space: {text!r} needs {numbers}, the minimum and the maximum.")
    low, high = values
    if low >= high:
        raise ConfigError(
            f"tune.space: {text!r} is {'empty' if low == high else 'inverted'}: {low} is not below {high}."
        )
    if kind == "log" and low <= 0:
        raise ConfigError(f"tune.space: {text!r}: a log range must start above 0, not at {low}.")
    return SpaceLine(key, kind, values if kind == "int" else (float(low), float(high)))


def _require_choices(text: str, values: Sequence[Any]) -> None:
    if len(values) != len({repr(value) for value in values}):
        raise ConfigError(f"tune.space: {text!r} has duplicate choices.")
    if len(values) < 2:
        raise ConfigError(f"tune.space: {text!r} has only one choice. Use --set for it.")
    listed = next((value for value in values if isinstance(value, list | dict)), None)
    if listed is not None:
        raise ConfigError(
            f"tune.space: {text!r} has the choice {listed}; a choice must be a number, word, true, false or null. Try "
            "lists in separate runs, with --set."
        )


def _require_searchable(text: str, key: str, config: Config) -> None:
    if key in _MEASURED_WITH:
        raise ConfigError(
            f"tune.space: {text!r}: the validation pass reads real images with {key}, too, so trials with different "
            "values could not be compared. Try them in separate searches, with --set."
        )
    if key.split(".")[0] not in _SECTIONS or not decides(key, "train", config) or key in ("train.run", "train.images"):
        raise ConfigError(
            f"tune.space: {text!r}: {key} does not affect training. Search settings of "
            f"{', '.join(_SECTIONS[:-1])} or {_SECTIONS[-1]} that affect training."
        )


def _require_valid(text: str, key: str, value: Any, config: Config) -> None:
    try:
        with_overrides(config, {key: value})
    except ConfigError as error:
        said = error.message.splitlines()[-1].strip()
        raise ConfigError(f"tune.space: {text!r} has values that the setting does not allow: {said}") from error
