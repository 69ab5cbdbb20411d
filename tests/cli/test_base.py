"""What every command has in common, tried on a small real stage made here."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from emixer.cli.base import setting, stage_command
from emixer.cli.group import CommandGroup
from emixer.cli.main import main
from emixer.config import Config, load_config

STAGE = '''
"""A stage that writes one file."""
from emixer.errors import SourceError

def describe(config):
    return f"would write {config.phantom.studies} studies to {config.phantom.out}"

def run(config):
    if config.seed == 7:
        raise SourceError("studies · 7 · expected another seed · choose one")
    if config.seed == 8:
        raise KeyboardInterrupt
    if config.seed == 9:
        raise ZeroDivisionError("a bug")
    config.phantom.out.mkdir(parents=True)
    (config.phantom.out / "studies").write_text(str(config.phantom.studies))
    return f"wrote {config.phantom.studies} studies"
'''


@stage_command(
    "draw", stage="stage_of_the_cli_test", preset={"ingest.fit": "pad"}, requires=("phantom.out", "ingest.out")
)
@setting("--studies", "phantom.studies")
@setting("--out", "phantom.out")
@setting("--side-px", "ingest.side_px")
@setting("--duplicates", "phantom.duplicate_fraction")
@setting("--use-gpu", "train.use_gpu")
@setting("--labels", "generate.labels")
def draw() -> None:
    """Draw studies.

    More about it.
    """


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "stage_of_the_cli_test.py").write_text(STAGE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("stage_of_the_cli_test", None)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    emixer, root = logging.getLogger("emixer"), logging.getLogger()
    before = emixer.level, root.level, list(root.handlers)
    yield
    emixer.level, root.level, root.handlers = before


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(draw, [str(argument) for argument in arguments], prog_name="emixer draw")


def printed_config(*arguments: str | Path) -> dict[str, dict[str, object]]:
    result = call(*arguments, "--print-config")
    assert result.exit_code == 0, result.output
    tree: dict[str, dict[str, object]] = yaml.safe_load(result.stdout)
    return tree


@pytest.mark.usefixtures("stage")
class TestRunning:
    """--dry-run, the run itself and how it fails."""

    def test_a_stage_runs_and_its_summary_is_printed(self, tmp_path: Path) -> None:
        result = call("--studies", "12", "--out", tmp_path / "a", "--set", "ingest.out=x")
        assert (result.exit_code, result.stdout) == (0, "wrote 12 studies\n")
        assert (tmp_path / "a" / "studies").read_text() == "12"

    def test_a_dry_run_says_what_would_be_done_and_touches_nothing(self, tmp_path: Path) -> None:
        result = call("--studies", "12", "--out", tmp_path / "a", "--set", "ingest.out=x", "--dry-run")
        assert result.stdout == f"would write 12 studies to {tmp_path / 'a'}\n"
        assert not (tmp_path / "a").exists()

    def test_an_error_of_ours_is_one_paragraph_on_stderr_and_exit_code_2(self, tmp_path: Path) -> None:
        result = call("--out", tmp_path / "a", "--set", "ingest.out=x", "--set", "seed=7")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr == "Error: studies · 7 · expected another seed · choose one\n"

    def test_debug_shows_the_traceback(self, tmp_path: Path) -> None:
        result = call("--out", tmp_path / "a", "--set", "ingest.out=x", "--set", "seed=7", "--debug")
        assert type(result.exception).__name__ == "SourceError"

    def test_a_bug_keeps_its_traceback(self, tmp_path: Path) -> None:
        result = call("--out", tmp_path / "a", "--set", "ingest.out=x", "--set", "seed=9")
        assert isinstance(result.exception, ZeroDivisionError)

    def test_an_interruption_says_how_to_go_on(self, tmp_path: Path) -> None:
        result = call("--out", tmp_path / "a", "--set", "ingest.out=x", "--set", "seed=8")
        assert result.exit_code == 130
        assert "Run the same command again to resume" in result.stderr

    def test_what_is_required_is_asked_for_by_its_flag_or_its_key(self) -> None:
        result = call()
        assert result.exit_code == 2
        assert "phantom.out and ingest.out are not set. Give --out and --set ingest.out=..." in result.stderr

    def test_what_is_required_may_come_from_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "config.yaml"
        file.write_text(f"phantom: {{out: {tmp_path / 'a'}}}\ningest: {{out: x}}\n")
        assert call("--config", file, "--dry-run").stdout.endswith(f"to {tmp_path / 'a'}\n")


def test_the_printed_config_is_yaml_that_gives_the_same_config(tmp_path: Path) -> None:
    result = call("--studies", "12", "--set", "optim.lr_generator=1e-4", "--print-config")
    assert result.stderr == ""
    file = tmp_path / "config.yaml"
    file.write_text(result.stdout)
    expected = {"phantom.studies": 12, "optim.lr_generator": 1e-4, "ingest.fit": "pad"}
    assert load_config(file) == load_config(extra=expected)


def test_flags_win_over_set_which_wins_over_the_file_and_presets_over_both(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("phantom: {studies: 1, height_px: 64}\ningest: {fit: crop}\n")
    overrides = ["--set", "phantom.studies=2", "--set", "phantom.height_px=65"]
    tree = printed_config("--config", file, *overrides, "--studies", "3")
    assert (tree["phantom"]["studies"], tree["phantom"]["height_px"], tree["ingest"]["fit"]) == (3, 65, "pad")


def test_flags_are_read_as_the_types_of_their_settings() -> None:
    labels = ["--labels", "Edema, Pneumonia", "--labels", "Fracture"]
    tree = printed_config("--side-px", "64", "--duplicates", "1e-2", "--use-gpu", "false", *labels)
    assert tree["ingest"]["side_px"] == 64
    assert tree["phantom"]["duplicate_fraction"] == 0.01
    assert tree["train"]["use_gpu"] is False
    assert tree["generate"]["labels"] == ["Edema", "Pneumonia", "Fracture"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--studies", "1e6"], "--studies expects N (whole number); got '1e6'"),
        (["--use-gpu", "yes"], "--use-gpu expects true|false (true | false); got 'yes'"),
        (["--labels", ""], "--labels is empty. Expected A,B,..."),
        (["--labels", " , "], "--labels is empty"),
        (["--out", ""], "--out is empty. Expected PATH, or leave it out."),
        (["--studies", " "], "--studies is empty. Expected N, or leave it out."),
        (["--ray-address", ""], "--ray-address is empty. Expected ADDRESS, or leave it out."),
        (["--set", "phantom.out=''"], "phantom: out is empty. Expected a path, or leave it out."),
        (["--duplicates", "x"], "--duplicates expects X (number); got 'x'"),
        (["--studies", "0"], "phantom.studies: must be greater than or equal to 1 (given: 0)"),
        (["--side-px", "100"], "ingest.side_px: must be 32, 64, 128 or 256 (given: 100)"),
        (["--duplicates", "nan"], "phantom.duplicate_fraction: must be a finite number"),
        (["--set", "phantom.studys=3"], "Did you mean phantom.studies?"),
        (["--config", "absent.yaml"], "There is no config file absent.yaml"),
    ],
)
def test_a_wrong_value_is_answered_in_the_words_of_the_command_line(arguments: list[str], expected: str) -> None:
    result = call(*arguments, "--print-config")
    assert result.exit_code == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    result = call("--studeis", "3")
    assert result.exit_code == 2
    assert "--studies" in result.stderr


def test_help_shows_each_setting_with_its_key_default_and_range() -> None:
    text = " ".join(call("--help").stdout.split())
    assert "--studies N Number of studies" in text
    assert "[phantom.studies; default: 1000; >= 1" in text
    assert "--out PATH Output folder of the collection. [phantom.out; required]" in text
    assert "--side-px 32|64|128|256" in text
    assert "More about it." in text


def test_help_keeps_the_settings_of_a_stage_apart_from_what_every_stage_has() -> None:
    own, _, shared = call("-h").stdout.partition("Common options:")
    assert "--studies" in own
    for option in ("--config", "--set", "--print-config", "--dry-run", "--ray-address", "--debug", "--help"):
        assert option in shared
        assert f"  {option}" not in own


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2
    assert "There is no command 'trian'. Did you mean train?" in result.stderr


def test_an_unknown_command_like_no_other_is_answered_with_all() -> None:
    group = CommandGroup("g", commands=[click.Command("one"), click.Command("two")])
    result = CliRunner().invoke(group, ["zzzzz"])
    assert "Choose one of one, two." in result.stderr


def test_main_lists_its_commands_in_the_order_of_the_work() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout.partition("Commands, in workflow order:")[2]
    shown = [text.index(f"\n  {name}") for name in ("phantom", "ingest", "train", "generate", "gallery")]
    assert shown == sorted(shown)


def test_a_flag_for_a_setting_that_does_not_exist_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        setting("--studies", "phantom.studys")


def test_the_default_config_is_what_is_printed_without_any_argument() -> None:
    result = CliRunner().invoke(stage_command("plain", stage="none")(lambda: None), ["--print-config"])
    assert yaml.safe_load(result.stdout) == Config().model_dump(mode="json")
