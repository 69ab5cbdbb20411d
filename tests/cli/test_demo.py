"""`emixer demo`, run from a wheel in a folder without the repository."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from emixer.cli import demo
from emixer.cli.main import main

ROOT = Path(__file__).parents[2]
TINY = (
    "phantom.studies=80", "phantom.validate_fraction=0.25", "phantom.test_fraction=0.25", "ingest.min_token_count=1",
    "data.window_rows=16", "train.images=64", "train.validate_every_images=64", "validation.images=4",
    "generate.num=32", "audit.false_alarm=0.1",
)  # fmt: skip
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as it lies in site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    built = subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    zipfile.ZipFile(folder / built.stdout.split()[-1]).extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def start(unpacked: Path, tmp_path: Path) -> Start:
    """Starts a module of the wheel in an empty folder."""

    def start(module: str, *arguments: str) -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", module, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(unpacked)}
        return subprocess.Popen(line, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)  # fmt: skip

    return start


def tiny() -> list[str]:
    return [word for setting in TINY for word in ("--set", setting)]


def test_a_step_is_not_disturbed_by_a_file_with_the_name_of_one_of_our_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.py").touch()
    monkeypatch.chdir(tmp_path)
    code, _ = demo._run(["--version"], captured=False)
    assert code == 0


def test_a_wheel_knows_the_demo_and_its_config_without_the_repository(start: Start, unpacked: Path) -> None:
    process = start("emixer", "demo", "--dry-run", "--json")
    printed, said = process.communicate()
    assert process.returncode == 0, said
    told = json.loads(printed)
    assert told["outcome"] == "dry run"
    assert all((unpacked / package / "py.typed").exists() for package in ("emixer", "cluster", "jobs"))
    assert "draws 1,500 studies" in told["plan"]
    assert "trains on 24,000 images" in told["plan"]
    assert (unpacked / "emixer" / "configs" / "demo.yaml").read_bytes() == (ROOT / "configs" / "demo.yaml").read_bytes()


@pytest.mark.parametrize("module", ["jobs", "cluster"])
def test_the_other_programs_start_from_a_wheel(start: Start, module: str) -> None:
    process = start(module, "--help")
    printed, said = process.communicate()
    assert process.returncode == 0, said
    assert printed.startswith(f"Usage: python -m {module} ")


def test_each_command_that_the_demo_shows_is_one_that_a_user_can_type() -> None:
    shown = CliRunner().invoke(main, ["demo", "--out", "a folder", "--set", "seed=3", "--dry-run"]).stdout
    commands = [shlex.split(line)[2:] for line in shown.splitlines() if line.startswith("  $ emixer ")]
    assert [command[0] for command in commands] == ["phantom", "ingest", "train", "generate", "audit", "gallery"]
    for command in commands:
        resolved = CliRunner().invoke(main, [*command, "--print-config", "--json"])
        assert json.loads(resolved.stdout)["seed"] == 3, resolved.output
        assert "a folder/" in resolved.stdout


def test_a_step_that_fails_ends_the_demo_with_its_error_and_its_code(tmp_path: Path) -> None:
    occupied = tmp_path / "phantom"
    occupied.write_text("a file where the first step wants a folder")
    line = [sys.executable, "-m", "emixer", "demo", "--out", str(tmp_path), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert done.returncode == told["exit_code"] != 0
    assert (told["stage"], told["outcome"]) == ("demo", "failed")
    assert told["error"]["message"].startswith("Step 1 of 6, phantom: ")
    assert "When that is corrected, the same command resumes there." in done.stderr


@pytest.mark.thorough
def test_a_demo_that_is_stopped_goes_on_to_the_page(start: Start, tmp_path: Path) -> None:
    process = start("emixer", "demo", *tiny(), "--json")
    end = time.monotonic() + 600
    while not (tmp_path / "demo" / "shards" / "manifest.json").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 143, said
    assert json.loads(printed)["outcome"] == "stopped"

    process = start("emixer", "demo", *tiny(), "--json")
    printed, said = process.communicate(timeout=800)
    assert process.returncode == 0, said
    told = json.loads(printed)
    steps = told["figures"]["steps"]
    assert [step["stage"] for step in steps] == ["phantom", "ingest mimic-cxr", "train", "generate", "audit", "gallery"]
    assert steps[0]["outcome"] == "nothing to do"
    assert steps[2]["figures"]["images"] == 64
    assert steps[3]["figures"]["pairs"] == 32
    assert told["outputs"]["page"] == str(tmp_path / "demo" / "gallery.html")
    for step in steps:
        for path in step["outputs"].values():
            assert Path(path).exists()
