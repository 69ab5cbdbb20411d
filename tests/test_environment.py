"""pyproject.toml, environment.yml, requirements.lock and CITATION.cff agree, and `emixer` is one program."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from emixer import __version__

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA: list[Any] = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]
PYTHONS = ("3.11", "3.12", "3.13")


def declared(lines: list[str]) -> dict[str, tuple[SpecifierSet, frozenset[str]]]:
    """Return name -> (versions, extras)."""
    found = map(Requirement, lines)
    return {canonicalize_name(each.name): (each.specifier, frozenset(each.extras)) for each in found}


def pip_lines() -> list[str]:
    (pip,) = (entry["pip"] for entry in CONDA if isinstance(entry, dict))
    return list(pip)


def test_conda_has_the_packages_and_ranges_of_pyproject() -> None:
    assert declared([line for line in pip_lines() if not line.startswith("--")]) == declared(PROJECT["dependencies"])


def test_conda_constrains_pip_by_the_lock_and_installs_this_project() -> None:
    options = [line for line in pip_lines() if line.startswith("--")]
    assert options == ["--constraint requirements.lock", "--editable .[dev]"]


def test_conda_and_pyproject_require_the_same_python() -> None:
    (python,) = (entry for entry in CONDA if isinstance(entry, str) and entry.startswith("python"))
    assert Requirement(python).specifier == SpecifierSet(PROJECT["requires-python"])
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in PYTHONS)


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_pins_every_declared_package_within_its_range(python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pinned: dict[str, SpecifierSet] = {
        canonicalize_name(each.name): each.specifier
        for each in LOCK
        if each.marker is None or each.marker.evaluate(dict(here))
    }
    for name, (versions, _) in declared(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]).items():
        (pin,) = pinned[name]
        assert pin.operator == "=="
        assert versions.contains(pin.version), f"{name}=={pin.version} is not in {versions}; run `make lock`"


def test_lock_pins_exactly_and_names_no_index() -> None:
    assert all([spec.operator for spec in each.specifier] == ["=="] for each in LOCK)
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|--|@|index|\bfile:", text)


def test_installed_packages_are_the_locked_ones() -> None:
    from importlib.metadata import version

    applying = [each for each in LOCK if each.marker is None or each.marker.evaluate()]
    different = [str(each) for each in applying if not each.specifier.contains(version(each.name))]
    assert different == [], "this environment differs from requirements.lock; delete .venv/.installed and run make"


def test_citation_names_the_version_and_the_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert [author["family-names"] for author in citation["preferred-citation"]["authors"]][:2] == ["Biswal", "Zhuang"]
    assert "http://www.apache.org/licenses/" in (ROOT / "LICENSE").read_text()


def test_script_and_module_are_the_same_program() -> None:
    from emixer.cli.main import main

    (script,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "emixer")
    assert script.load() is main
    by_script = subprocess.run([Path(sys.executable).with_name("emixer"), "--help"], capture_output=True, check=True)
    by_module = subprocess.run([sys.executable, "-m", "emixer", "--help"], capture_output=True, check=True)
    assert by_script.stdout == by_module.stdout
    assert by_script.stdout.startswith(b"Usage: emixer ")


def test_wheel_has_every_file_of_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    from hatchling.build import build_wheel

    monkeypatch.chdir(ROOT)  # a build backend works on the current folder
    wheel = zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path)))
    held = set(wheel.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "emixer", "cluster", "jobs"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(tracked) <= held
