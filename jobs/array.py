"""Job arrays: the configs of one stage with several values of some settings, and where each writes."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emixer.config import Config, with_overrides
from emixer.config.load import read_value, require_key
from emixer.errors import ConfigError
from jobs.submit import OUTPUT_KEYS, output_of

_MAX_ELEMENTS = 1000
"""SLURM's default limit for the size of an array."""


@dataclass(frozen=True)
class Element:
    """One job of an array."""

    label: str
    """The settings in which it differs, e.g. `seed=1,alpha=0.5`; empty for a single job."""
    config: Config


def elements(stage: str, config: Config, axes: Sequence[str]) -> list[Element]:
    """Every combination of the axes (`KEY=V1,V2,...`), the last axis varying fastest. Each writes to its own subfolder
    of the stage's output folder, named after its label. Without axes: the config unchanged.

    Raises ConfigError for an unknown key, an axis without values, or elements that would share a folder.
    """
    if not axes:
        return [Element("", config)]
    read = [_axis(text) for text in axes]
    keys = [key for key, _ in read]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"--array names {next(k for k in keys if keys.count(k) > 1)} twice; give all values at once.")
    if OUTPUT_KEYS[stage] in keys:
        raise ConfigError(f"--array {OUTPUT_KEYS[stage]}: each job gets its own subfolder of it; give one value.")
    names = _short_names(keys)
    made = [_element(stage, config, keys, names, values) for values in itertools.product(*(v for _, v in read))]
    if len(made) > _MAX_ELEMENTS:
        raise ConfigError(f"--array gives {len(made):,} jobs; the limit is {_MAX_ELEMENTS:,}. Split it.")
    folders = [output_of(stage, element.config) for element in made]
    twice = next((e.label for e, folder in zip(made, folders, strict=True) if folders.count(folder) > 1), None)
    if twice is not None:
        raise ConfigError(f"--array: two jobs would write to {twice!r}. Remove the duplicate value.")
    return made


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, written = text.partition("=")
    require_key(key, f"--array {text}")
    values = read_value(f"[{written}]") if equals else []
    if not isinstance(values, list) or not values:
        raise ConfigError(f"--array {text!r} has no values. Write KEY=V1,V2, e.g. --array seed=0,1,2.")
    return key, values


def _short_names(keys: Sequence[str]) -> list[str]:
    """Last part of each key, or the whole key if two have the same last part."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def _element(stage: str, config: Config, keys: Sequence[str], names: Sequence[str], values: Sequence[Any]) -> Element:
    label = ",".join(f"{name}={_in_a_name(value)}" for name, value in zip(names, values, strict=True))
    base = output_of(stage, config)
    overrides = dict(zip(keys, values, strict=True))
    if base is not None:
        overrides[OUTPUT_KEYS[stage]] = base / label
    return Element(label, with_overrides(config, overrides))


def _in_a_name(value: Any) -> str:
    """Value as text that is safe in folder names and shells; for a path, its last part."""
    text = str(value).rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.+-]+", "-", text).strip("-") or "empty"
