"""The settings as data: each leaf of Config with its type, default, range and description.

Command-line help, error hints and docs/configuration.md all come from here.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from emixer.config.base import Section
from emixer.config.config import Config


@dataclass(frozen=True)
class Setting:
    """One leaf of the config."""

    key: str
    """Dotted, e.g. `optim.lr_generator`."""
    annotation: Any
    """Python type, without None."""
    optional: bool
    """Whether null is a value."""
    default: Any
    """Value that Config() has; for a section that is absent there, the field's own default."""
    required: bool
    """Whether the field has no default."""
    bounds: str
    """e.g. `>= 1, <= 16`; empty where there are none."""
    description: str
    section: type[Section]
    """The section class that declares it."""
    kind: str | None
    """Tag of the alternative it belongs to, e.g. `open-i`; None outside of tagged sections."""
    within: str | None
    """Tag of the tagged section around that one: `emixer` for the kinds of its report decoder; None if there is
    none."""

    @property
    def type_name(self) -> str:
        """The type in words a user of YAML knows, e.g. `whole number`, `a | b`, `list of texts`."""
        return _type_name(self.annotation)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values where they are listed, else empty."""
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else ()

    @property
    def is_range(self) -> bool:
        """Whether the value is one number, or two."""
        return get_origin(self.annotation) in (Union, types.UnionType)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return get_origin(self.annotation) is tuple


def all_settings() -> Iterator[Setting]:
    """Every setting in the order of Config, a section's own before those of its sections.

    Keys of tagged sections come once for each kind that has them.
    """
    yield from _settings_of(Config, Config(), "", (None, None))


def find_setting(key: str, kind: str | None = None) -> Setting:
    """The setting with that dotted key; of that kind, where a tagged section has one for each. Raises KeyError."""
    for setting in all_settings():
        if setting.key == key and kind in (None, setting.kind):
            return setting
    raise KeyError(key)


def sections_in(annotation: Any) -> list[type[Section]]:
    """The section classes a field may hold: none for a plain value, several for a tagged section."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [section for argument in get_args(annotation) for section in sections_in(argument)]
    return []


def kind_of(section: type[BaseModel]) -> str | None:
    """The tag of a section class that is one of several alternatives."""
    field = section.model_fields.get("kind")
    return None if field is None else str(get_args(field.annotation)[0])


_Tags = tuple[str | None, str | None]
"""`Setting.kind` and `Setting.within`."""


def _settings_of(section: type[Section], value: Section | None, prefix: str, tags: _Tags) -> Iterator[Setting]:
    nested = {name: sections_in(field.annotation) for name, field in section.model_fields.items()}
    for name, field in section.model_fields.items():
        if not nested[name]:
            own_default = field.get_default(call_default_factory=True)
            yield _setting(prefix + name, field, getattr(value, name, own_default), section, tags)
    for name, alternatives in nested.items():
        for alternative in alternatives:
            held = getattr(value, name, None)
            inner = (kind_of(alternative), tags[0]) if len(alternatives) > 1 else tags
            yield from _settings_of(
                alternative, held if isinstance(held, alternative) else None, f"{prefix}{name}.", inner
            )


def _setting(key: str, field: FieldInfo, default: Any, section: type[Section], tags: _Tags) -> Setting:
    annotation = field.annotation
    optional = get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)
    if optional:
        annotation = next(argument for argument in get_args(annotation) if argument is not type(None))
    return Setting(
        key=key,
        annotation=annotation,
        optional=optional,
        default=default,
        required=field.is_required(),
        bounds=_bounds(field),
        description=" ".join((field.description or "").split()),
        section=section,
        kind=tags[0],
        within=tags[1],
    )


def _bounds(field: FieldInfo) -> str:
    signs = ((annotated_types.Ge, "ge", ">="), (annotated_types.Gt, "gt", ">"),
             (annotated_types.Le, "le", "<="), (annotated_types.Lt, "lt", "<"))  # fmt: skip
    found = [
        f"{sign} {_number(getattr(entry, attribute))}"
        for kind, attribute, sign in signs
        for entry in field.metadata
        if isinstance(entry, kind)
    ]
    return ", ".join(found)


def _number(value: Any) -> str:
    return f"{value:,}".replace(",", "_") if isinstance(value, int) else f"{value:g}"


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(_type_name(argument) for argument in get_args(annotation))
    if get_origin(annotation) is tuple:
        arguments = [argument for argument in get_args(annotation) if argument is not Ellipsis]
        many = f"{len(arguments)} " if Ellipsis not in get_args(annotation) else ""
        plural = "" if get_origin(arguments[0]) is Literal else "s"
        return f"list of {many}{_type_name(arguments[0])}{plural}"
    if get_origin(annotation) is dict:
        return "mapping"
    names = {int: "whole number", float: "number", bool: "true | false", Path: "path", str: "text"}
    return names[annotation]
