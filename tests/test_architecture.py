"""Who may import whom (docs/architecture.md), and what the command line must not wait for."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded_by(code: str) -> set[str]:
    """Return the top-level packages in sys.modules after running `code` in a fresh interpreter."""
    report = "\nimport sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def run_linter(folder: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        Path(sys.executable).with_name("lint-imports"),
        "--no-cache",
        "--config",
        folder / "pyproject.toml",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_import_contracts_hold() -> None:
    done = run_linter(ROOT)
    assert done.returncode == 0, done.stdout


def test_contracts_match_the_layers_of_the_architecture_page() -> None:
    (layers, *_) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.split("checks it with import-linter:")[1].split("```")[1].replace(" → ", "\n")
    assert [line.strip() for line in drawn.strip().splitlines()] == layers["layers"]


def test_every_package_is_in_a_layer() -> None:
    (layers, *_) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    placed = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    packages = {f"emixer.{path.parent.name}" for path in (ROOT / "emixer").glob("*/__init__.py")}
    assert packages <= placed


@pytest.mark.parametrize("code", ["import jobs", "import cluster", "import emixer", "import emixer.config"])
def test_light_packages_import_neither_torch_nor_ray(code: str) -> None:
    assert not {"torch", "ray", "pyarrow", "pandas"} & loaded_by(code)


def test_training_and_sampling_in_one_process_need_no_ray() -> None:
    loaded = loaded_by("import emixer.stages.train, emixer.stages.train.plan, emixer.generation.sampler")
    assert "torch" in loaded
    assert "ray" not in loaded


def test_import_probe_detects_a_heavy_import() -> None:
    assert "pyarrow" in loaded_by("import pyarrow")


@pytest.mark.parametrize("arguments", [[], ["train"], ["generate"]])
def test_help_waits_for_neither_torch_nor_ray(arguments: list[str]) -> None:
    code = f"from emixer.cli.main import main; main({[*arguments, '--help']!r}, standalone_mode=False)"
    loaded = loaded_by(code)
    assert "click" in loaded
    assert not {"torch", "ray", "pyarrow", "pandas"} & loaded


def test_list_of_commands_does_not_even_wait_for_the_config() -> None:
    assert "pydantic" not in loaded_by("from emixer.cli.main import main; main(['--help'], standalone_mode=False)")
