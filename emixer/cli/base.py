"""How every command is made: flags are names for dotted config keys, so help, types and ranges have one source."""

import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import click

from emixer.cli.group import CONTEXT
from emixer.config import Config, to_yaml, validate
from emixer.config.load import Tree, merge_config
from emixer.config.settings import Setting, find_setting
from emixer.errors import ConfigError, find_emixer_error

_FLAGS = "__emixer_flags__"


@dataclass(frozen=True)
class _Flag:
    name: str
    setting: Setting
    required: bool

    @property
    def parameter(self) -> str:
        """The name under which click hands over the value."""
        return self.setting.key.replace(".", "_")


def setting(
    flag: str, key: str, *, kind: str | None = None, required: bool = False, hidden: bool = False
) -> Callable[[Callable[..., None]], Any]:
    """Adds a flag that sets the dotted config key `key`; type, help, range and default come from the config field.

    kind: which alternative of a tagged section is meant, e.g. `open-i`, where several have the key.
    required: the stage does not start unless this flag, --set or --config gives a value.
    """
    named = _Flag(flag, find_setting(key, kind), required)
    alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if named.setting.annotation is bool else {}
    option = click.option(
        flag,
        named.parameter,
        multiple=named.setting.is_list,
        hidden=hidden,
        metavar=_metavar(named.setting),
        **alone,
    )

    def decorate(function: Callable[..., None]) -> Any:
        setattr(function, _FLAGS, [named, *getattr(function, _FLAGS, [])])
        return option(function)

    return decorate


def stage_command(
    name: str, *, stage: str, preset: Mapping[str, Any] | None = None, requires: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], "StageCommand"]:
    """Turns a function with `setting` decorators into a command that runs the stage module `stage`.

    preset: config keys that this command fixes (e.g. the source kind of `ingest open-i`).
    requires: further keys, with or without a flag, that must be set before the stage starts.
    """

    def decorate(function: Callable[..., None]) -> StageCommand:
        flags = [
            _Flag(f.name, f.setting, f.required or f.setting.key in requires) for f in getattr(function, _FLAGS, [])
        ]

        def resolve(
            config: tuple[Path, ...],
            overrides: tuple[str, ...],
            check: bool,
            ray_address: str | None = None,
            **given: Any,
        ) -> Config:
            extra = {**(preset or {}), **_values(flags, given)}
            if ray_address is not None:
                extra["ray.address"] = ray_address
            tree, origin = merge_config(config, overrides, extra)
            if check:
                _require(tree, flags, requires)
            return validate(tree, origin)

        def invoke(print_config: bool, dry_run: bool, debug: bool, **given: Any) -> None:
            with readable_errors(debug):
                resolved = resolve(check=not print_config, **given)
                if print_config:
                    click.echo(to_yaml(resolved), nl=False)
                    return
                configure_logging(debug)
                module = importlib.import_module(stage)
                click.echo(module.describe(resolved) if dry_run else str(module.run(resolved)))

        own = _described(getattr(function, "__click_params__", [])[::-1], flags)
        command = StageCommand(name, callback=invoke, params=[*own, *_common_options()], help=function.__doc__,
                                context_settings=CONTEXT)  # fmt: skip
        command.own_parameters = frozenset(option.name for option in own)
        command.stage, command.resolve = stage, resolve
        return command

    return decorate


class StageCommand(click.Command):
    """A command whose help shows the stage's own settings apart from the options that every stage has."""

    own_parameters: frozenset[str | None] = frozenset()
    stage: str
    """The module that does the work: `run(config)`, `describe(config)`."""
    resolve: Callable[..., Config]
    """From the parsed options to a checked config, without doing anything. Raises ConfigError."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                (own if parameter.name in self.own_parameters else shared).append(record)
        if own:
            with formatter.section("Settings (config key in brackets)"):
                formatter.write_dl(own)
        with formatter.section("Common options"):
            formatter.write_dl(shared)


def _described(options: Sequence[click.Parameter], flags: Sequence[_Flag]) -> list[click.Parameter]:
    help_of = {flag.parameter: _help(flag) for flag in flags}
    for option in options:
        assert isinstance(option, click.Option), "a stage takes options only"
        option.help = help_of[str(option.name)]
    return list(options)


def _common_options() -> list[click.Parameter]:
    def common(*args: Any, **kwargs: Any) -> click.Option:
        return click.Option(args, **kwargs)

    path = click.Path(path_type=Path, dir_okay=False)
    return [
        common("--config", type=path, multiple=True, metavar="FILE",
               help="YAML config file; --set and flags override it. Repeatable: later files override earlier ones."),
        common("--set", "overrides", multiple=True, metavar="KEY=VALUE",
               help="Any setting in docs/configuration.md, e.g. --set loss.alpha=0.5. Repeatable."),
        common("--print-config", is_flag=True, help="Print the resolved config as YAML and exit."),
        common("--dry-run", is_flag=True, help="Print what would be done, its size and where it would go, and exit."),
        common("--ray-address", metavar="ADDRESS", help="A running Ray cluster; default: start one on this machine."),
        common("--debug", is_flag=True, help="Show tracebacks and debug messages."),
    ]  # fmt: skip


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
            click.secho("\nInterrupted. Run the same command again to resume.", fg="yellow", err=True)
            sys.exit(130)
        known = find_emixer_error(error)
        if known is not None:
            click.echo(f"{click.style('Error:', fg='red', bold=True)} {known}", err=True)
            sys.exit(2)
        return False


def configure_logging(debug: bool) -> None:
    """Messages of emixer to stderr; of the libraries, warnings only."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("emixer").setLevel(logging.DEBUG if debug else logging.INFO)


def _require(tree: Tree, flags: Sequence[_Flag], requires: Sequence[str]) -> None:
    names = {flag.setting.key: flag.name for flag in flags}
    keys = dict.fromkeys([*(flag.setting.key for flag in flags if flag.required), *requires])
    missing = [key for key in keys if _at(tree, key) is None]
    if missing:
        wanted = " and ".join(names.get(key, f"--set {key}=...") for key in missing)
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. "
            f"Give {wanted}, or set {'it' if len(missing) == 1 else 'them'} in a --config file."
        )


def _at(tree: Tree, key: str) -> Any:
    node: Any = tree
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _values(flags: Sequence[_Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        flag.setting.key: _convert(flag, given[flag.parameter])
        for flag in flags
        if given[flag.parameter] not in (None, ())
    }


def _convert(flag: _Flag, value: Any) -> Any:
    if flag.setting.is_list:
        (element, *_) = get_args(flag.setting.annotation)
        parts = [part.strip() for text in value for part in text.split(",") if part.strip()]
        return tuple(_scalar(flag, part, element) for part in parts)
    if flag.setting.is_range:
        numbers = tuple(_scalar(flag, part, int) for part in value.split(","))
        return numbers[0] if len(numbers) == 1 else numbers
    choices = flag.setting.choices
    return _scalar(flag, value, type(choices[0]) if choices else flag.setting.annotation)


def _scalar(flag: _Flag, text: str, wanted: type) -> Any:
    try:
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        return wanted(text) if wanted in (int, float) else text
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{flag.name} expects {_metavar(flag.setting)} ({flag.setting.type_name}); got {text!r}."
        ) from error


def _metavar(setting: Setting) -> str:
    if setting.choices:
        return "|".join(map(str, setting.choices))
    if setting.is_range:
        return "N|MIN,MAX"
    names = {int: "N", float: "X", bool: "true|false", Path: "PATH", str: "TEXT"}
    return "A,B,..." if setting.is_list else names[setting.annotation]


def _help(flag: _Flag) -> str:
    setting = flag.setting
    notes = [setting.key]
    if flag.required:
        notes.append("required")
    elif setting.default not in (None, (), ""):
        default = setting.default
        notes.append(f"default: {','.join(map(str, default)) if setting.is_list else _plain(default)}")
    if setting.bounds:
        notes.append(setting.bounds)
    many = " Comma-separated or repeated." if setting.is_list else ""
    return f"{setting.description}{many}  [{'; '.join(notes)}]"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else str(value)
