"""How every command is made: flags are names for dotted config keys, so help, types and ranges have one source."""

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click

from emixer.cli.answer import answering, prose_to_stderr, usage_failure
from emixer.cli.completion import complete_override, complete_setting
from emixer.cli.config_file import CONFIG_FILE
from emixer.cli.group import CONTEXT
from emixer.config import Config, validate
from emixer.config.load import merge_config
from emixer.config.settings import Setting, find_setting
from emixer.config.tree import Tree, value_at
from emixer.errors import ConfigError

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


def setting(flag: str, key: str, *, kind: str | None = None) -> Callable[[Callable[..., None]], Any]:
    """Adds a flag that sets the dotted config key `key`; type, help, range and default come from the config field.

    kind: which alternative of a tagged section is meant, e.g. `open-i`, where several have the key.
    """
    named = _Flag(flag, find_setting(key, kind), required=False)
    alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if named.setting.annotation is bool else {}
    option = click.option(
        flag,
        named.parameter,
        multiple=named.setting.is_list,
        metavar=_metavar(named.setting),
        shell_complete=complete_setting(named.setting),
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
        flags = [_Flag(f.name, f.setting, f.setting.key in requires) for f in getattr(function, _FLAGS, [])]

        def resolve(
            config: tuple[Path, ...],
            overrides: tuple[str, ...],
            check: bool,
            ray_address: str | None = None,
            **given: Any,
        ) -> Config:
            extra = {**(preset or {}), **_values(flags, given)}
            if ray_address is not None:
                _require_text("--ray-address", ray_address, "ADDRESS")
                extra["ray.address"] = ray_address
            tree, origin = merge_config(config, overrides, extra)
            if check:
                _require(tree, flags, requires)
            return validate(tree, origin)

        def invoke(print_config: bool, dry_run: bool, debug: bool, as_json: bool, **given: Any) -> None:
            with answering(words_of(click.get_current_context()), as_json=as_json, debug=debug) as answer:
                resolved = resolve(check=not print_config, **given)
                if print_config:
                    answer.config(resolved)
                    return
                configure_logging(debug)
                with prose_to_stderr(as_json):
                    module = importlib.import_module(stage)
                    told = module.describe(resolved) if dry_run else module.run(resolved)
                (answer.plan if dry_run else answer.result)(told)

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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        as_json = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if as_json:
                usage_failure(words_of(ctx), error)
            raise

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


def words_of(ctx: click.Context) -> str:
    """The command without the name of the program, e.g. `ingest mimic-cxr`."""
    return ctx.command_path.partition(" ")[2] or str(ctx.command.name)


def _described(options: Sequence[click.Parameter], flags: Sequence[_Flag]) -> list[click.Parameter]:
    help_of = {flag.parameter: _help(flag) for flag in flags}
    for option in options:
        assert isinstance(option, click.Option), "a stage takes options only"
        option.help = help_of[str(option.name)]
    return list(options)


def _common_options() -> list[click.Parameter]:
    def common(*args: Any, **kwargs: Any) -> click.Option:
        return click.Option(args, **kwargs)

    return [
        common("--config", type=CONFIG_FILE, multiple=True, metavar="FILE",
               help="YAML config file, or the name of one that comes with emixer, e.g. demo; --set and flags override "
                    "it. Repeatable: later files override earlier ones."),
        common("--set", "overrides", multiple=True, metavar="KEY=VALUE", shell_complete=complete_override,
               help="Any setting in docs/configuration.md, e.g. --set loss.alpha=0.5. Repeatable."),
        common("--print-config", is_flag=True, help="Print the resolved config as YAML and exit."),
        common("--dry-run", is_flag=True, help="Print what would be done, its size and where it would go, and exit."),
        common("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; all else goes to stderr."),
        common("--ray-address", metavar="ADDRESS", help="A running Ray cluster; default: start one on this machine."),
        common("--debug", is_flag=True, help="Show tracebacks and debug messages."),
    ]  # fmt: skip


def configure_logging(debug: bool) -> None:
    """Messages of emixer to stderr; of the libraries, warnings only."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("emixer").setLevel(logging.DEBUG if debug else logging.INFO)


def _require(tree: Tree, flags: Sequence[_Flag], requires: Sequence[str]) -> None:
    names = {flag.setting.key: flag.name for flag in flags}
    keys = dict.fromkeys([*(flag.setting.key for flag in flags if flag.required), *requires])
    missing = [key for key in keys if value_at(tree, key) is None]
    if missing:
        wanted = " and ".join(names.get(key, f"--set {key}=...") for key in missing)
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. "
            f"Give {wanted}, or set {'it' if len(missing) == 1 else 'them'} in a --config file."
        )


def _values(flags: Sequence[_Flag], given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        flag.setting.key: _convert(flag, given[flag.parameter])
        for flag in flags
        if given[flag.parameter] not in (None, ())
    }


def _require_text(name: str, text: str, expected: str) -> None:
    if not text.strip():  # of a shell's variable that is not set: not a wish for the default
        raise ConfigError(f"{name} is empty. Expected {expected}, or leave it out.")


def _convert(flag: _Flag, value: Any) -> Any:
    if flag.setting.is_list:
        (element, *_) = get_args(flag.setting.annotation)
        parts = [part.strip() for text in value for part in text.split(",") if part.strip()]
        _require_text(flag.name, "".join(parts), _metavar(flag.setting))
        return tuple(_scalar(flag, part, element) for part in parts)
    if flag.setting.annotation is not str or not value:  # a separator may be a space
        _require_text(flag.name, value, _metavar(flag.setting))
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
