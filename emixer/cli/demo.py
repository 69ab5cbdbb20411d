"""`emixer demo`: the whole pipeline on procedural images, step by step as a user would type it.

Each step is a process of its own, the very command that is shown, so that one can be repeated or changed by hand.
"""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from emixer import errors
from emixer.cli.answer import ExitCode, answering
from emixer.cli.completion import complete_override
from emixer.cli.config_file import CONFIG_FILE
from emixer.cli.group import CONTEXT
from emixer.config import Config, load_config
from emixer.config.packaged import find_config
from emixer.stages.result import StageResult

_CONFIG = "demo"


@dataclass(frozen=True)
class Step:
    """One command of the demo."""

    what: str
    how_long: str
    """On two CPU cores, at the demo's own sizes."""
    words: tuple[str, ...]
    """The command without the program."""


@dataclass(frozen=True)
class DemoResult(StageResult):
    """A demo that is through. steps: what each command said with --json; empty without it."""

    out: Path
    steps: tuple[Mapping[str, Any], ...]

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"page": _page(self.out), "dataset": self.out / "dataset", "run": self.out / "run"}

    @property
    def figures(self) -> Mapping[str, Any]:
        return {"steps": self.steps}

    def __str__(self) -> str:
        return (
            f"\nOpen this page in a browser: {_page(self.out).absolute()}\n"
            f"Then draw pairs for labels of your choice: emixer serve --run {self.out.absolute() / 'run'}"
        )


@click.command("demo", context_settings=CONTEXT)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True,
              metavar="FOLDER", help="Folder for everything that the demo writes.")  # fmt: skip
@click.option("--config", "files", type=CONFIG_FILE, multiple=True, metavar="FILE",
              help="YAML config file over that of the demo. Repeatable.")  # fmt: skip
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", shell_complete=complete_override,
              help="Any setting, for every step, e.g. --set train.images=48_000. Repeatable.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the commands and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout; all else goes to stderr.")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug messages.")
def command(
    out: Path, files: tuple[Path, ...], overrides: tuple[str, ...], dry_run: bool, as_json: bool, debug: bool
) -> None:
    """Run the whole pipeline on procedural chest images: six commands, four to seven minutes on two CPU cores.

    Draws a phantom collection, ingests it, trains a small model, generates pairs, audits them and writes a web page.
    Needs no data and no GPU. After an interruption, run the same command again: it resumes where it stopped.

    \b
      emixer demo
      emixer demo --out /scratch/demo --set train.images=48_000
    """
    with answering("demo", as_json=as_json, debug=debug) as answer:
        config = load_config([find_config(_CONFIG), *files], overrides)
        given = [*_repeated("--config", files), *_repeated("--set", overrides)]
        steps = demo_steps(config, out, given)
        if dry_run:
            lines = [f"{_announced(steps, step, bool(given))}\n  {_shown(step.words)}" for step in steps]
            answer.plan("\n".join([*lines, f"Would write {_page(out)}"]))
            return
        told = []
        for step in steps:
            click.echo(_announced(steps, step, bool(given)), err=as_json)
            click.echo(_shown(step.words), err=as_json)
            common = [*(["--json"] if as_json else []), *(["--debug"] if debug else [])]
            code, said = _run([*step.words, *common], captured=as_json)
            if code:
                _give_up(f"Step {steps.index(step) + 1} of {len(steps)}, {step.words[0]}", code, said)
            told.append(said)
        answer.result(DemoResult(out, tuple(told)))


def demo_steps(config: Config, out: Path, given: Sequence[str]) -> tuple[Step, ...]:
    """The commands, in order. given: options to add to each."""
    phantom, shards, run, dataset = (str(out / name) for name in ("phantom", "shards", "run", "dataset"))

    def words(*stage: str, **paths: str) -> tuple[str, ...]:
        options = [word for name, path in paths.items() for word in (f"--{name}", path)]
        return (*stage, "--config", _CONFIG, *given, *options)

    quarter = "a quarter of a minute"
    return (
        Step(f"draws {config.phantom.studies:,} studies of procedural chest images with reports", "half a minute",
             words("phantom", out=phantom)),
        Step("ingests them into shards", quarter, words("ingest", "mimic-cxr", root=phantom, out=shards)),
        Step(f"trains on {config.train.images:,} images: words first, then images, then the full objective",
             "five minutes", words("train", shards=shards, run=run)),
        Step(f"generates {config.generate.num or 1000:,} pairs", quarter, words("generate", run=run, out=dataset)),
        Step("audits them: do they repeat what the model was trained on?", quarter,
             words("audit", shards=shards, dataset=dataset)),
        Step("writes the page", quarter, words("gallery", run=run, dataset=dataset, out=str(_page(out)))),
    )  # fmt: skip


def _page(out: Path) -> Path:
    return out / "gallery.html"


def _repeated(option: str, values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        yield from (option, str(value))


def _announced(steps: Sequence[Step], step: Step, is_changed: bool) -> str:
    """is_changed: of other sizes than the times are for."""
    how_long = "" if is_changed else f" (about {step.how_long} on two cores)"
    return f"{steps.index(step) + 1} of {len(steps)}: {step.what}{how_long}"


def _shown(words: Sequence[str]) -> str:
    return f"$ emixer {shlex.join(words)}"


def _run(words: Sequence[str], *, captured: bool) -> tuple[int, dict[str, Any]]:
    """Returns the exit code, and with `captured` what the command printed as JSON."""
    line = [sys.executable, "-P", "-m", "emixer", *words]  # -P: a file here may have the name of one of our packages
    to = subprocess.PIPE if captured else None
    with subprocess.Popen(line, stdout=to, text=True) as process, _signals_left_to(process) as received:
        printed, _ = process.communicate()
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    if received and not code:  # the step was through before the signal reached it
        code = 128 + received[0]
    return code, json.loads(printed) if printed else {}


@contextmanager
def _signals_left_to(process: "subprocess.Popen[str]") -> Iterator[list[int]]:
    """A step ends in its own way, saving what it has; this process waits for it. Yields the signals received.

    Ctrl-C reaches both from the terminal; SIGTERM is passed on.
    """
    received: list[int] = []

    def on_signal(number: int, _: Any) -> None:
        received.append(number)
        if number == signal.SIGTERM:
            process.terminate()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _give_up(step: str, code: int, said: Mapping[str, Any]) -> NoReturn:
    """Exits with the code of the step that has said why, in prose or as JSON."""
    if code in (ExitCode.INTERRUPTED, ExitCode.STOPPED):
        click.echo(f"{step}, was stopped. Run the same command again to resume there.", err=True)
    else:
        click.echo(f"{step}, failed. When that is corrected, the same command resumes there.", err=True)
    why = said.get("error", {"class": "EmixerError", "message": f"ended with exit code {code}"})
    kind = getattr(errors, why["class"], errors.EmixerError)
    raise SystemExit(code) from kind(f"{step}: {why['message']}")
