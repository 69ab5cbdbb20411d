"""What every config section is: frozen, strict, closed."""

from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator, model_validator


class Section(BaseModel):
    """A group of settings: unknown keys are rejected, values are never coerced silently, instances are immutable."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    keeps_settings_of_other_kinds: ClassVar[bool] = False
    """For a section tagged by `kind`: whether choosing another kind keeps the settings that both kinds have."""

    @model_validator(mode="before")
    @classmethod
    def _paths_are_not_empty(cls, values: Any) -> Any:
        for name, field in cls.model_fields.items() if isinstance(values, dict) else ():
            # pathlib takes it for the current folder
            if values.get(name) == "" and Path in (field.annotation, *get_args(field.annotation)):
                raise ValueError(f"{name} is empty. Expected a path, or leave it out")
        return values

    @field_validator("*", mode="after")
    @classmethod
    def _paths_are_absolute(cls, value: Any) -> Any:
        # Ray's workers run in folders of their own, and a run folder's config must mean the same from anywhere
        return absolute(value) if isinstance(value, Path) else value


def absolute(path: Path) -> Path:
    """`path` from the working directory, or from the home that ~ or ~USER names. Raises ValueError for no such user."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{path.parts[0]} names no user of this machine; a folder of that name is ./{path}") from error


def beside(folder: Path, what: str) -> Path:
    """The folder `FOLDER-what` beside shards or a dataset, for what must not be given away with it."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}-{what}")


def page_address(value: str | None) -> str | None:
    """Validator of a served page's public address, to which it adds the last slash."""
    if value is None:
        return None
    if not value.startswith(("https://", "http://")) or "#" in value or "?" in value:
        raise ValueError("url must start with https:// or http:// and contain neither ? nor #")
    return value if value.endswith("/") else f"{value}/"


def _refuse_look_alikes(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


ExactInteger = BeforeValidator(_refuse_look_alikes)
"""Goes with Literal[1, 3]: True and 1.0 equal 1, so that even strict mode lets them pass."""
