"""--json and exit codes, tried on a small real stage made here; docs/cli.md promises them."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from emixer.cli.base import StageCommand
from emixer.cli.main import main
from emixer.stages.result import StageResult

ROOT = Path(__file__).parents[2]
STAGE = '''
"""A stage that ends in the way that its seed says."""
import subprocess
from pathlib import Path

from emixer.errors import SourceError, StoppedError
from emixer.stages.result import StageResult


class Drawn(StageResult):
    def __init__(self, out, seed):
        self.out, self.seed = out, seed

    @property
    def nothing_to_do(self):
        return self.seed == 1

    @property
    def outputs(self):
        return {"folder": self.out, "files": (self.out / "a", self.out / "b")}

    @property
    def figures(self):
        return {"mean": 0.5, "undefined": float("nan"), "splits": {None: (1, 2)}}

    def __str__(self):
        return "a summary for people"


def describe(config):
    return "would draw"


def run(config):
    print("prose of the stage")
    subprocess.run(["echo", "prose of a program"], check=True)
    errors = {6: StoppedError("saved; the same command resumes"), 7: SourceError("no table · choose another"),
              8: KeyboardInterrupt(), 9: ZeroDivisionError("a bug")}
    if config.seed in errors:
        raise errors[config.seed]
    return Drawn(Path("drawn"), config.seed)
'''
COMMAND = """
from emixer.cli.base import setting, stage_command

@stage_command("draw", stage="stage_of_the_answer_test")
@setting("--seed", "seed")
def draw():
    "Draw."

if __name__ == "__main__":
    draw(prog_name="emixer draw")
"""


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[click.Command]:
    (tmp_path / "stage_of_the_answer_test.py").write_text(STAGE)
    (tmp_path / "command_of_the_answer_test.py").write_text(COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    emixer, root = logging.getLogger("emixer"), logging.getLogger()
    before = emixer.level, root.level, list(root.handlers)
    import command_of_the_answer_test  # type: ignore[import-not-found]

    made: click.Command = command_of_the_answer_test.draw
    yield made
    emixer.level, root.level, root.handlers = before
    for name in ("stage_of_the_answer_test", "command_of_the_answer_test"):
        sys.modules.pop(name, None)


def call(command: click.Command, *arguments: str) -> tuple[Result, dict[str, Any]]:
    """With what it printed on stdout, which must be one line of JSON."""
    done = CliRunner().invoke(command, [*arguments, "--json"], prog_name="emixer draw")
    (line,) = done.stdout.splitlines()
    return done, json.loads(line)


def test_a_result_is_one_object_with_its_outcome_absolute_paths_and_figures(draw: click.Command) -> None:
    done, told = call(draw)
    assert done.exit_code == 0
    assert told.pop("seconds") >= 0
    here = Path.cwd() / "drawn"
    assert told == {
        "stage": "draw",
        "outcome": "done",
        "outputs": {"folder": str(here), "files": [str(here / "a"), str(here / "b")]},
        "figures": {"mean": 0.5, "undefined": None, "splits": {"None": [1, 2]}},
    }
    assert "prose of the stage" in done.stderr


def test_a_stage_that_found_everything_done_says_so(draw: click.Command) -> None:
    assert call(draw, "--seed", "1")[1]["outcome"] == "nothing to do"


@pytest.mark.parametrize(
    ("seed", "code", "outcome", "kind", "message"),
    [
        ("6", 143, "stopped", "StoppedError", "saved; the same command resumes"),
        ("7", 2, "failed", "SourceError", "no table · choose another"),
        ("8", 130, "stopped", "KeyboardInterrupt", "Interrupted. Run the same command again to resume."),
        ("9", 1, "failed", "ZeroDivisionError", "a bug"),
    ],
)
def test_each_way_to_fail_has_its_exit_code_with_and_without_json(
    draw: click.Command, seed: str, code: int, outcome: str, kind: str, message: str
) -> None:
    done, told = call(draw, "--seed", seed)
    assert (done.exit_code, told["exit_code"], told["outcome"]) == (code, code, outcome)
    assert told["error"] == {"class": kind, "message": message}
    in_prose = CliRunner().invoke(draw, ["--seed", seed])
    assert in_prose.exit_code == code
    assert "{" not in in_prose.stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "message", "said"),
    [
        (["--set", "sead=3"], "ConfigError", "Did you mean seed?", "Did you mean seed?"),
        (["--sead", "3"], "NoSuchOption", "No such option '--sead'.", "--seed"),
        (["--seed", "x"], "ConfigError", "--seed expects N", "--seed expects N"),
    ],
)
def test_a_command_line_that_is_wrong_is_told_as_an_object_too(
    draw: click.Command, arguments: list[str], kind: str, message: str, said: str
) -> None:
    done, told = call(draw, *arguments)
    assert (done.exit_code, told["exit_code"], told["error"]["class"]) == (2, 2, kind)
    assert message in told["error"]["message"]
    assert said in done.stderr


def test_a_dry_run_and_the_config_are_objects(draw: click.Command) -> None:
    assert call(draw, "--dry-run")[1]["plan"] == "would draw"
    assert call(draw, "--print-config", "--seed", "3")[1]["seed"] == 3


def test_what_other_programs_print_goes_to_stderr(draw: click.Command, tmp_path: Path) -> None:
    line = [sys.executable, tmp_path / "command_of_the_answer_test.py", "--json"]
    done = subprocess.run(line, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["outcome"] == "done"
    assert "prose of the stage\nprose of a program\n" in done.stderr


def stages(command: click.Command) -> Iterator[StageCommand]:
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from stages(command.get_command(context, name) or click.Command(name))
    elif isinstance(command, StageCommand):
        yield command


def test_every_stage_returns_what_json_is_made_of() -> None:
    modules = {command.stage for command in stages(main)}
    assert len(modules) >= 13
    for name in modules:
        __import__(name)
        hint = get_type_hints(sys.modules[name].run)["return"]
        assert all(issubclass(kind, StageResult) for kind in get_args(hint) or (hint,)), name


def test_the_documented_exit_codes_are_those_there_are() -> None:
    from emixer.cli.answer import ExitCode

    page = (ROOT / "docs" / "cli.md").read_text().split("## Exit codes")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row.isdigit()] == [str(int(code)) for code in ExitCode]


def test_the_documented_example_has_the_keys_of_a_real_answer(draw: click.Command) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    assert set(example) == set(call(draw)[1])


def test_the_printed_config_without_json_is_still_yaml(draw: click.Command) -> None:
    assert yaml.safe_load(CliRunner().invoke(draw, ["--print-config"]).stdout)["seed"] == 0
