"""What a command answers: prose or, with --json, one JSON object on stdout; and its exit code (docs/cli.md)."""

import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from emixer.config import Config, to_yaml
from emixer.errors import StoppedError, find_emixer_error

if TYPE_CHECKING:
    from emixer.stages.result import StageResult


class ExitCode(IntEnum):
    """How every command of `emixer` ends."""

    DONE = 0
    DEFECT = 1
    """An error that emixer did not foresee, with its traceback. `emixer doctor`: a problem was found."""
    USERS_ERROR = 2
    """Of the command line, or an EmixerError: the message says what to do."""
    INTERRUPTED = 130
    """By Ctrl-C. The same command resumes."""
    STOPPED = 143
    """By SIGTERM. The same command resumes."""


_INTERRUPTED = "Interrupted. Run the same command again to resume."
_STOPPED = (ExitCode.INTERRUPTED, ExitCode.STOPPED)


class readable_errors:  # noqa: N801 - reads as a statement
    """Prints an EmixerError as one paragraph and exits with its code; other errors keep their traceback."""

    def __init__(self, debug: bool) -> None:
        self.debug = debug

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> Literal[False]:
        if error is None or self.debug:
            return False
        if isinstance(error, SystemExit) and not isinstance(error.__cause__, StoppedError):  # that of SIGTERM's handler
            return False
        if isinstance(error, KeyboardInterrupt):
            click.secho(f"\n{str(error) or _INTERRUPTED}", fg="yellow", err=True)
            sys.exit(ExitCode.INTERRUPTED)
        known = find_emixer_error(error)
        if known is not None:
            click.echo(f"{click.style('Error:', fg='red', bold=True)} {known}", err=True)
            sys.exit(_code_of(known))
        return False


class Answer:
    """Prints what a command came to. stage: the words of the command, e.g. `ingest mimic-cxr`."""

    def __init__(self, stage: str, *, as_json: bool) -> None:
        self._stage, self._as_json = stage, as_json
        self._started = time.monotonic()

    def config(self, config: Config) -> None:
        """The resolved config, for --print-config."""
        text = json.dumps(config.model_dump(mode="json")) + "\n" if self._as_json else to_yaml(config)
        click.echo(text, nl=False)

    def plan(self, text: str) -> None:
        """What would be done, for --dry-run."""
        if self._as_json:
            self._print("dry run", plan=text)
        else:
            click.echo(text)

    def result(self, result: "StageResult") -> None:
        """What was done."""
        if not self._as_json:
            click.echo(str(result))
            return
        outcome = "nothing to do" if result.nothing_to_do else "done"
        self._print(outcome, outputs=_plain(result.outputs), figures=_plain(result.figures))

    def failure(self, error: BaseException, code: int) -> None:
        """What went wrong; the paragraph for people goes to stderr by other ways."""
        known = find_emixer_error(error) or error
        told = {"class": type(known).__name__, "message": str(known) or _INTERRUPTED}
        self._print("stopped" if code in _STOPPED else "failed", error=told, exit_code=code)

    def _print(self, outcome: str, **more: Any) -> None:
        seconds = round(time.monotonic() - self._started, 3)
        click.echo(json.dumps({"stage": self._stage, "outcome": outcome, **more, "seconds": seconds}))


@contextlib.contextmanager
def answering(stage: str, *, as_json: bool, debug: bool) -> Iterator[Answer]:
    """An answer with readable errors. With as_json nothing but the answer's object goes to stdout, come what may."""
    answer = Answer(stage, as_json=as_json)
    try:
        with readable_errors(debug):
            yield answer
    except BaseException as error:
        if as_json and not (isinstance(error, SystemExit) and error.code in (0, None)):
            answer.failure(*_cause_and_code(error))
        raise


@contextlib.contextmanager
def prose_to_stderr(is_wanted: bool) -> Iterator[None]:
    """Whatever is written to stdout meanwhile, also by libraries and processes that start here, goes to stderr."""
    if not is_wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def usage_failure(stage: str, error: click.UsageError) -> None:
    """The object for a command line that cannot be read."""
    Answer(stage, as_json=True).failure(error, ExitCode.USERS_ERROR)


def _code_of(error: BaseException) -> ExitCode:
    return ExitCode.STOPPED if isinstance(error, StoppedError) else ExitCode.USERS_ERROR


def _cause_and_code(error: BaseException) -> tuple[BaseException, int]:
    """What was raised first, and the code that this process will exit with."""
    if isinstance(error, SystemExit):
        return error.__cause__ or error.__context__ or error, int(error.code or 0)
    return error, ExitCode.DEFECT


def _plain(value: Any) -> Any:
    """The value as JSON has it: paths absolute, numbers that are not finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Enum):
        return _plain(value.value)
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
