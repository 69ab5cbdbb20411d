"""Commands in the README, the docs and the shipped configs as they stand there: their options and settings exist and
make a valid config."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from emixer.audit.control import min_control
from emixer.cli.main import main as emixer
from emixer.stages.audit.control import NUM_MEASURES
from jobs.cli import main as jobs

ROOT = Path(__file__).parents[2]
PROGRAMS = {"emixer": emixer, "python -m jobs": jobs}
FLAGS = re.DOTALL | re.MULTILINE
_NO_STAGE = ("status", "logs", "cancel", "pipeline", "STAGE", "doctor", "demo", "completion", "--help")


def documented() -> list[tuple[str, str]]:
    """(file, command) of every command of a stage in a block of code, or in the comments of a config."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [(path.name, line) for path in pages for line in in_blocks(path.read_text())]
    configs = sorted((ROOT / "configs").rglob("*.yaml"))
    lines += [(path.name, line) for path in configs for line in in_comments(path.read_text())]
    found = []
    for name, line in lines:
        command = line.removeprefix("$ ").removeprefix("python -m cluster submit -- ").strip()
        if command.startswith(tuple(f"{program} " for program in PROGRAMS)):
            found.append((name, command.replace("$table", "table1")))
    return found


def in_blocks(markdown: str) -> list[str]:
    text = markdown.replace("\\\n", " ")
    fenced = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, FLAGS))
    indented = "\n".join(line.strip() for line in text.splitlines() if line.startswith("    "))
    return f"{fenced}\n{indented}".splitlines()


def named_files() -> dict[str, str]:
    """Config files that pages show, by the name in their first line: `# site.yaml`. Of one name, the last counts."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    blocks = [
        block for page in pages for block in re.findall(r"^```yaml\n(# (\S+\.yaml)\n.*?)^```", page.read_text(), FLAGS)
    ]
    return {name: text for text, name in blocks}


def in_comments(config: str) -> list[str]:
    comments = [line.strip().removeprefix("#").strip() for line in config.splitlines() if line.strip().startswith("#")]
    return "\n".join(comments).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize(("file", "command"), documented())
def test_its_options_and_settings_exist(
    file: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, text in named_files().items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    program = next(name for name in PROGRAMS if command.startswith(f"{name} "))
    words = [word for word in shlex.split(command.removeprefix(program), comments=True) if word != "..."]
    if words[0] in _NO_STAGE:
        pytest.skip("no command of a stage: it has no --print-config")
    result = CliRunner().invoke(PROGRAMS[program], [*words, "--print-config"])
    assert result.exit_code == 0, result.output


def test_the_files_of_the_mimic_cxr_guide_lead_through_its_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in named_files().items():
        (tmp_path / name).write_text(re.sub(r"(?<= )/(data|shared)\b", rf"{tmp_path}/\1", text))
    (tmp_path / "data" / "mimic-cxr-jpg").mkdir(parents=True)
    (tmp_path / "shared" / "runs" / "encoder").mkdir(parents=True)
    (tmp_path / "shared" / "runs" / "encoder" / "encoder.safetensors").touch()
    pages = {command for file, command in documented() if file == "mimic-cxr.md" and "pipeline" in command}
    (command,) = (command for command in pages if "--dry-run" in command)
    done = CliRunner().invoke(jobs, shlex.split(command.removeprefix("python -m jobs"), comments=True))
    assert done.exit_code == 0, done.output
    for stage in ("ingest", "train", "generate", "evaluate", "audit"):
        assert f"--comment=emixer:{stage}" in done.output


def test_they_were_found() -> None:
    assert len(documented()) > 40
    assert {file for file, _ in documented()} >= {"README.md", "generate.md", "paper.yaml"}


HELD_OUT_OF_DEMO = 291  # images of validate and test in shards of the demo's phantom, as its config says
OF_THE_DEMO = ("--dataset data/synthetic", "--run runs/first")


def test_documented_audits_of_the_walk_through_ask_no_more_than_its_held_out_images_can_tell() -> None:
    audits = [
        command
        for _, command in documented()
        if command.startswith("emixer audit ") or "--audit " in command
        if any(words in command for words in OF_THE_DEMO)
    ]
    assert len(audits) >= 4
    for command in audits:
        words = shlex.split(command.removeprefix("emixer "), comments=True)
        printed = CliRunner().invoke(emixer, [*words, "--print-config"])
        false_alarm = yaml.safe_load(printed.output)["audit"]["false_alarm"]
        assert min_control(false_alarm / NUM_MEASURES) <= HELD_OUT_OF_DEMO, command


def test_the_commands_from_images_to_pairs_in_the_readme_lead_to_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    way = (ROOT / "README.md").read_text().split("## From images to pairs")[1].split("\nEvery command")[0]
    fewer = {"phantom": ["--studies", "60"], "ingest": ["--min-token-count", "1"], "train": ["--dry-run"]}
    commands = [shlex.split(line, comments=True) for line in way.splitlines() if line.startswith("    emixer ")]
    assert [command[1] for command in commands[:3]] == list(fewer)
    for _, stage, *rest in commands[:3]:
        done = CliRunner().invoke(emixer, [stage, *rest, *fewer[stage]])
        assert done.exit_code == 0, done.output
    assert "Would train emixer" in done.output


def test_the_command_that_a_stage_suggests_next_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side_px = 64  # another one than that of the suggested config
    monkeypatch.chdir(tmp_path)
    line = "emixer phantom --config demo --studies 60 --out phantom"
    further = {"ingest": ["--min-token-count", "1", "--side-px", str(side_px)], "train": ["--dry-run"]}
    for stage in ("phantom", "ingest", "train"):
        _, *words = shlex.split(line)
        assert words[0] == stage
        done = CliRunner().invoke(emixer, [*words, *further.get(stage, [])])
        assert done.exit_code == 0, done.output
        line = (re.findall(r"emixer .*", done.output.split("Next:")[-1]) or [""])[0]
    assert f"Would train emixer at {side_px} px" in done.output
