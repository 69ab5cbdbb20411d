"""How every command is made: flags are names for dotted config keys, so help, types and ranges have one source."""

import importlib
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from emixer.config import Config, load_config, to_yaml
from emixer.errors import EmixerError

_SETTINGS = "__emixer_settings__"


def setting(flag: str, key: str, *, required: bool = False, hidden: bool = False) -> Callable[[Callable[..., None]], Any]:
    """Adds a flag that sets the dotted config key `key`; help text and default come from the config field."""
    field = _field(key)
    default = field.get_default(call_default_factory=True)
    text = (field.description or "").strip()
    shown = "" if required or default in (None, (), "") else f"  [default: {_show(default)}]"
    many = _is_tuple(field.annotation)
    option = click.option(
        flag,
        _parameter_name(key),
        required=required,
        multiple=many,
        hidden=hidden,
        default=None,
        metavar=_metavar(field.annotation),
        help=f"{text}{' Comma-separated or repeated.' if many else ''}{shown}",
    )

    def decorate(function: Callable[..., None]) -> Any:
        getattr(function, _SETTINGS, None) or setattr(function, _SETTINGS, {})
        getattr(function, _SETTINGS)[_parameter_name(key)] = (key, field.annotation, required)
        return option(function)

    return decorate


def stage_command(
    name: str, *, stage: str, preset: dict[str, Any] | None = None, requires: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], click.Command]:
    """Turns a function with `setting` decorators into a command that runs the stage module `stage`.

    preset: config keys that this command fixes (e.g. the source kind of `ingest open-i`).
    requires: keys that must be set by a flag, --config or --set before the stage starts.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        settings = getattr(function, _SETTINGS, {})

        def invoke(
            config: Path | None, overrides: tuple[str, ...], print_config: bool, dry_run: bool, debug: bool,
            ray_address: str | None, **flags: Any,
        ) -> None:  # fmt: skip
            with readable_errors(debug):
                extra = dict(preset or {})
                for parameter, (key, annotation, _) in settings.items():
                    value = flags[parameter]
                    if value not in (None, ()):
                        extra[key] = _convert(value, annotation, key)
                if ray_address is not None:
                    extra["ray.address"] = ray_address
                resolved = load_config(config, overrides, extra)
                if print_config:
                    click.echo(to_yaml(resolved), nl=False)
                    return
                _require(resolved, requires, settings, function)
                configure_logging(debug)
                module = importlib.import_module(stage)
                click.echo(module.describe(resolved) if dry_run else str(module.run(resolved)))

        command = click.command(name, help=function.__doc__, context_settings={"max_content_width": 110})(invoke)
        command.params = [*getattr(function, "__click_params__", [])[::-1], *_common_options()]
        return command

    return decorate


def _common_options() -> list[click.Parameter]:
    def common(*args: Any, **kwargs: Any) -> click.Option:
        return click.Option(args, **kwargs)

    path = click.Path(path_type=Path, dir_okay=False)
    return [
        common("--config", type=path, help="YAML file of settings; flags and --set win over it."),
        common("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting, e.g. --set loss.alpha=0.5."),
        common("--print-config", is_flag=True, help="Print the resolved settings as YAML and stop."),
        common("--dry-run", is_flag=True, help="Say what would be done, how large and where to, and stop."),
        common("--ray-address", metavar="ADDRESS", help="A running Ray cluster; without it one is started here."),
        common("--debug", is_flag=True, help="Show tracebacks and debug messages."),
    ]


class readable_errors:  # noqa: N801 - reads as a statement
    """Prints an EmixerError as one paragraph and exits with 2; other errors keep their traceback."""

    def __init__(self, debug: bool) -> None:
        self.debug = debug

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> Literal[False]:
        if error is None or self.debug:
            return False
        if isinstance(error, KeyboardInterrupt):
            click.secho("\nInterrupted. The same command goes on from what is finished.", fg="yellow", err=True)
            sys.exit(130)
        known = find_emixer_error(error)
        if known is not None:
            click.echo(f"{click.style('Error:', fg='red', bold=True)} {known}", err=True)
            sys.exit(2)
        return False


def find_emixer_error(error: BaseException) -> EmixerError | None:
    """The EmixerError inside `error`: itself, or what Ray wrapped around one raised in a task or worker."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, EmixerError):
            # Ray raises a class made of both; the plain message is what the user needs
            return EmixerError(current.message) if hasattr(current, "message") else current
        inner = getattr(current, "worker_failures", None)  # Ray Train: {rank: error}
        queue += [getattr(current, "cause", None), current.__cause__, current.__context__]
        queue += list(inner.values()) if isinstance(inner, dict) else []
    return None


def configure_logging(debug: bool) -> None:
    """Messages of emixer to stderr; of the libraries, warnings only."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("emixer").setLevel(logging.DEBUG if debug else logging.INFO)


def _field(key: str) -> FieldInfo:
    section: type[BaseModel] = Config
    *parents, leaf = key.split(".")
    for index, name in enumerate(parents):
        inner = list(_sections(section.model_fields[name].annotation))
        following = [*parents, leaf][index + 1]
        section = next(s for s in inner if following in s.model_fields)
    return section.model_fields[leaf]


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _require(config: Config, keys: tuple[str, ...], settings: dict[str, Any], function: Callable[..., None]) -> None:
    flags = {p.name: p.opts[0] for p in getattr(function, "__click_params__", [])}
    for key in keys:
        node: Any = config
        for name in key.split("."):
            node = getattr(node, name, None)
        if node is None:
            flag = flags.get(_parameter_name(key))
            raise EmixerError(
                f"{key} is not set. Give {flag + ' VALUE, or ' if flag else ''}--set {key}=VALUE, or put it into a --config file."
            )


def _parameter_name(key: str) -> str:
    return key.replace(".", "_")


def _is_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _plain_type(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return next(a for a in get_args(annotation) if a is not type(None))
    return annotation


def _metavar(annotation: Any) -> str:
    plain = _plain_type(annotation)
    if _choices(plain):
        return "|".join(str(choice) for choice in _choices(plain))
    names = {int: "N", float: "X", bool: "true|false", Path: "PATH", str: "TEXT"}
    return names.get(plain, "A,B,..." if _is_tuple(plain) else "VALUE")


def _convert(value: Any, annotation: Any, key: str) -> Any:
    plain = _plain_type(annotation)
    if _is_tuple(plain):
        return tuple(part.strip() for item in value for part in item.split(",") if part.strip())
    try:
        if plain is bool:
            return {"true": True, "false": False}[value.lower()]
        if plain is int or (_choices(plain) and isinstance(_choices(plain)[0], int)):
            return int(value.replace("_", ""))
        if plain is float:
            return float(value)
    except (ValueError, KeyError) as error:
        raise EmixerError(f"{key} takes {_metavar(annotation)}; {value!r} is not one.") from error
    return value


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
