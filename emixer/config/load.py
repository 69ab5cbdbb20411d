"""defaults <- --config FILE <- --set a.b=c: one merge, one validation, messages a user can act on."""

import difflib
import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from emixer.config.base import Section
from emixer.config.config import Config
from emixer.config.packaged import find_config, packaged_configs, packaged_name
from emixer.config.settings import all_settings, kind_of, sections_in
from emixer.config.tree import Tree
from emixer.errors import ConfigError

_FLOAT = re.compile(
    r"^[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|nan))$"
)


class _Loader(yaml.SafeLoader):
    """SafeLoader without the surprises of YAML 1.1: 1e-4 is a number; no, 1:30, 010 and 2020-01-01 are text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [name.value for name, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {twice!r}", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][\d_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


class _Dumper(yaml.SafeDumper):
    """SafeDumper that also quotes text which `_Loader`, but not YAML 1.1, would take for a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def load_config(
    file: Path | str | Sequence[Path | str] | None = None,
    overrides: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Config:
    """Builds the config. Of several files a later one wins, and as text one may be the name of a config that comes with
    emixer, e.g. "demo"; `overrides` are `dotted.key=value` texts; `extra` maps dotted keys to values and wins over all.

    Raises ConfigError for an unknown key (naming the nearest valid one), a value out of range, or an unreadable file.
    """
    return validate(*merge_config(file, overrides, extra))


def merge_config(
    file: Path | str | Sequence[Path | str] | None = None,
    overrides: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> tuple[Tree, str]:
    """What `load_config` validates, and where it comes from, in words."""
    tree = Config().model_dump()
    given = [file] if isinstance(file, Path | str) else file or ()
    files = [find_config(each) if isinstance(each, str) else each for each in given]
    for each in files:
        tree = _merge(tree, _without_empty_sections(_read_yaml(each), tree), [Config])
    assignments = [*map(_parse_override, overrides), *(extra or {}).items()]
    origins = [str(each) for each in files]
    origins += ["the command line"] if assignments or not origins else []
    return _assign(tree, assignments), " and ".join(origins)


def with_overrides(config: Config, values: Mapping[str, Any]) -> Config:
    """The same config with dotted keys replaced, validated again (model_copy would not)."""
    return validate(_assign(config.model_dump(), list(values.items())), origin="overrides")


def validate(tree: Tree, origin: str) -> Config:
    """Validates a nested mapping as a Config; `origin` names it in messages."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise ConfigError(f"Invalid config from {origin}:\n{problems}") from error


def require_key(key: str, where: str) -> None:
    """Raises ConfigError, with the nearest key there is, if `key` is no setting."""
    if key not in {setting.key for setting in all_settings()}:
        raise ConfigError(f"{where}: there is no setting {key}.{_hint(key, None)}")


def read_value(text: str) -> Any:
    """One plain value as a config file has it: 1e-4 is a number, yes is text. Raises ConfigError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r} is not a valid YAML value.") from error


def to_yaml(config: Section) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal one."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _assign(tree: Tree, assignments: Iterable[tuple[str, Any]]) -> Tree:
    # a kind first: it drops the other kind's keys, but not those that are assigned beside it
    for key, value in sorted(assignments, key=lambda item: not item[0].endswith(".kind")):
        nested = value
        for name in reversed(key.split(".")):
            nested = {name: nested}
        tree = _merge(tree, nested, [Config])
    return tree


def _merge(below: Tree, above: Tree, sections: Sequence[type[Section]]) -> Tree:
    """`above` wins, key by key. A section of another kind drops what is below it, except for settings that both kinds
    have, where the kinds say so. sections: the classes that the tree may be."""
    if "kind" in above and above["kind"] != below.get("kind"):
        chosen = [s for s in sections if kind_of(s) == above["kind"] and s.keeps_settings_of_other_kinds]
        below = _known_to(chosen[0], below) if chosen else {}
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merge(old, value, _sections_under(sections, name))
        merged[name] = value
    return merged


def _known_to(section: type[Section], tree: Tree) -> Tree:
    """The settings of `tree` that `section` has."""
    kept: Tree = {}
    for name, value in tree.items():
        if name in section.model_fields:
            inner = _sections_under([section], name)
            if inner and isinstance(value, dict):
                chosen = [s for s in inner if kind_of(s) == value.get("kind")] or inner
                value = _known_to(chosen[0], value)
            kept[name] = value
    return kept


def _sections_under(sections: Sequence[type[Section]], name: str) -> list[type[Section]]:
    fields = [section.model_fields[name] for section in sections if name in section.model_fields]
    return [inner for field in fields for inner in sections_in(field.annotation)]


def _without_empty_sections(tree: Tree, defaults: Tree) -> Tree:
    """Drops `train:` with nothing but comments under it, which YAML reads as null."""
    kept = {}
    for name, value in tree.items():
        default = defaults.get(name)
        if isinstance(default, dict):
            if value is not None:
                kept[name] = _without_empty_sections(value, default) if isinstance(value, dict) else value
        else:
            kept[name] = value
    return kept


def _read_yaml(file: Path) -> Tree:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        name = packaged_name(file) or f"the name of one that comes with emixer: {', '.join(packaged_configs())}"
        raise ConfigError(
            f"There is no config file {file}. Give --config the path of a YAML file, or {name}."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read as YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(name, str) for name in tree):
        raise ConfigError(f"{file} is not a config: it must map sections to settings, e.g. train: {{images: 1000}}.")
    return tree


def _parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(
            f"--set {text!r} is not an assignment; write --set section.key=value, e.g. --set loss.alpha=0.2."
        )
    try:
        return key.strip(), yaml.load(value, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not valid YAML ({error}).") from error


def _explain(problem: ErrorDetails) -> str:
    key, kind = _written_key(problem["loc"])
    value = problem["input"]
    given = f" (given: {json.dumps(value, default=str)})"
    kinds = _kinds_at(problem["loc"])
    match problem["type"]:
        case "extra_forbidden":
            return f"{key}: there is no such key.{_hint(_first_leaf(key, value), kind)}"
        case "missing":
            return f"{key}: is required but not set."
        case "union_tag_not_found":
            return f"{key}.kind: is not set. Choose one of {kinds}."
        case "union_tag_invalid":
            return f"{key}.kind: {value.get('kind')!r} is not one of {kinds}."
        case "model_type" | "model_attributes_type":
            return f"{key}: is a section, not a value{given}."
        case "path_type":
            return f"{key}: expected a path as text; quote it if it looks like a number{given}."
        case "tuple_type":
            return f"{key}: expected a list, e.g. [a, b]{given}."
        case "value_error":
            return f"{key}: {problem['msg'].removeprefix('Value error, ')}{'' if isinstance(value, dict) else given}."
        case "int_type" | "int_from_float" if isinstance(value, float) and value.is_integer():
            return f"{key}: expected a whole number; write {int(value)}{given}."
    if isinstance(value, dict):
        return f"{key}: is a value, not a section{given}."
    return f"{key}: {problem['msg'].replace('Input should be', 'must be')}{given}."


def _written_key(location: Sequence[int | str]) -> tuple[str, str | None]:
    """The dotted key as the user wrote it, and the kind of the tagged section it lies in.

    pydantic puts the tag of a union into the location, which the user never wrote there.
    """
    parts: list[str] = []
    kind: str | None = None
    sections: list[type[Section]] = [Config]
    for part in location:
        chosen = [section for section in sections if len(sections) > 1 and kind_of(section) == part]
        if chosen:
            sections, kind = chosen, str(part)
            continue
        parts.append(str(part))
        sections = _sections_under(sections, str(part))
    return ".".join(parts), kind


def _kinds_at(location: Sequence[int | str]) -> str:
    key, _ = _written_key(location)
    return ", ".join(dict.fromkeys(s.kind for s in all_settings() if s.kind and s.key == f"{key}.kind"))


def _first_leaf(key: str, value: Any) -> str:
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        key = f"{key}.{name}"
    return key


def _hint(key: str, kind: str | None) -> str:
    elsewhere = dict.fromkeys(s.kind for s in all_settings() if s.key == key and s.kind and s.kind != kind)
    if elsewhere:
        return f" It belongs to kind {' or '.join(elsewhere)}; this one is {kind}."
    near = _nearest(key, list(dict.fromkeys(s.key for s in all_settings() if s.kind in (None, kind))))
    return f" Did you mean {near}?" if near else " `emixer train --print-config` lists all keys."


def _nearest(key: str, keys: Sequence[str]) -> str | None:
    """The setting most likely meant, if any.

    In a section that there is: one spelled alike or beginning so; else one of the same name in a related section, in
    none, or nowhere else. In one that there is not: one spelled alike, of the same name if any is.
    """
    section, _, name = key.rpartition(".")
    names = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == section]
    same_name = [k for k in keys if k.rpartition(".")[2] == name]
    related = [k for k in same_name if k.split(".")[0] == key.split(".")[0]]
    if not names:
        return _closest(key, related or same_name or keys, cutoff=0.7)
    alike = _closest(name, names, cutoff=0.7) or next((n for n in names if n.startswith(f"{name}_")), None)
    if alike is not None:
        return f"{section}.{alike}".lstrip(".")
    is_clear = len(same_name) == 1 or not section
    of_no_section = [k for k in same_name if "." not in k]
    return _closest(key, related or of_no_section or (same_name if is_clear else []), cutoff=0.0)


def _closest(name: str, names: Sequence[str], cutoff: float) -> str | None:
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=cutoff)), None)
