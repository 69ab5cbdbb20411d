"""defaults <- --config FILE <- --set a.b=c: one merge, one validation, messages a user can act on."""

import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from emixer.config.base import Section
from emixer.config.config import Config
from emixer.errors import ConfigError

Tree = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number, which YAML 1.1 takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|nan))$"),
    list("-+0123456789."),
)


def load_config(file: Path | None = None, overrides: Sequence[str] = (), extra: Mapping[str, Any] | None = None) -> Config:
    """Builds the config. `overrides` are `dotted.key=value` texts, `extra` maps dotted keys to values and wins over all.

    Raises ConfigError for an unknown key (naming the nearest valid one), a value out of range, or an unreadable file.
    """
    tree: Tree = _read_yaml(file) if file else {}
    for text in overrides:
        key, value = _parse_override(text)
        _put(tree, key, value)
    for key, value in (extra or {}).items():
        _put(tree, key, value)
    return validate(tree, origin=str(file) if file else "the command line")


def with_overrides(config: Config, values: Mapping[str, Any]) -> Config:
    """The same config with dotted keys replaced, validated again (model_copy would not)."""
    tree = config.model_dump()
    for key, value in values.items():
        _put(tree, key, value)
    return validate(tree, origin="overrides")


def validate(tree: Tree, origin: str) -> Config:
    """Validates a nested mapping as a Config; `origin` names it in messages."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(error, origin)) from error


def to_yaml(config: Section) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def dotted_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every leaf key, e.g. `optim.lr_generator`."""
    for name, field in section.model_fields.items():
        nested = list(_sections_in(field.annotation))
        for inner in nested:
            yield from dotted_keys(inner, f"{prefix}{name}.")
        if not nested:
            yield prefix + name


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _sections_in(argument)


def _read_yaml(file: Path) -> Tree:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        raise ConfigError(f"There is no config file {file}. Give --config a YAML file, e.g. configs/demo.yaml.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file} holds a {type(tree).__name__}; a config is a mapping of sections to settings.")
    return tree


def _parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {text!r} is not an assignment. Write --set section.key=value, e.g. --set loss.alpha=0.2.")
    try:
        return key.strip(), yaml.load(value, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not valid YAML ({error}).") from error


def _put(tree: Tree, dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    node = tree
    for depth, name in enumerate(parents):
        child = node.setdefault(name, {})
        if child is None:
            child = node[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{dotted} cannot be set: {'.'.join(parents[: depth + 1])} is a value, not a section.")
        node = child
    if leaf == "kind" and node.get("kind") not in (None, value):
        node.clear()  # another kind has other keys
    node[leaf] = value


def _explain(error: ValidationError, origin: str) -> str:
    lines = [f"The config from {origin} is not valid:"]
    for problem in error.errors():
        # pydantic puts the tag of a union into the location; the user never wrote it
        key = ".".join(str(part) for part in problem["loc"] if part not in ("mimic-cxr", "open-i", "image-folder"))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, list(dotted_keys()), n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else " `emixer train --print-config` lists all keys."
            lines.append(f"  {key}: there is no such key.{hint}")
        else:
            given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
            lines.append(f"  {key or 'config'}: {problem['msg']}{given}")
    return "\n".join(lines)
