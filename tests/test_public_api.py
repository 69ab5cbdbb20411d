"""What `import emixer` gives, and the page that tells of it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import emixer
from emixer.cli.base import StageCommand
from emixer.cli.main import main

ROOT = Path(__file__).parents[1]


def stages(group: click.Group) -> Iterator[str]:
    """Modules of all commands that run a stage."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from stages(command)
        elif isinstance(command, StageCommand):
            yield command.stage


def test_every_name_is_there_and_in_the_reference() -> None:
    documented = re.findall(r"^::: emixer\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
    assert set(emixer.__all__) - {"__version__"} == set(documented) - {"errors"}
    assert all(getattr(emixer, name) is not None for name in emixer.__all__)
    assert set(emixer.__all__) <= set(dir(emixer))


def test_every_member_that_the_reference_lists_is_there() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    listed = re.findall(
        r"^::: emixer\.(\w+)\n    options:\n(?:      .*\n)*?      members: \[(.*)\]$", text, flags=re.MULTILINE
    )
    assert {owner for owner, _ in listed} == {"Sampler", "errors"}
    for owner, members in listed:
        of = emixer.errors if owner == "errors" else getattr(emixer, owner)
        assert [name for name in members.split(", ") if not hasattr(of, name)] == []


@pytest.mark.parametrize("file", ["cluster.py", "cluster/__init__.py"])
def test_a_file_that_hides_one_of_our_packages_is_named(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    line = [sys.executable, "-c", "import emixer"]
    told = subprocess.run(
        line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert told.returncode == 1
    assert f"ImportError: {tmp_path / file} was imported as `cluster`" in told.stderr


def test_every_stage_of_the_command_line_is_a_function() -> None:
    functions = {getattr(emixer, name) for name in emixer.__all__}
    modules = {function.__module__ for function in functions if getattr(function, "__name__", "") == "run"}
    assert modules == set(stages(main))
    assert len(modules) > 12


def test_a_stage_takes_a_config_and_says_what_it_lacks() -> None:
    with pytest.raises(emixer.EmixerError, match=r"data\.shards is not set"):
        emixer.train(emixer.load_config())


def test_a_config_file_may_be_named_by_a_text(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("seed: 7\n")
    assert emixer.load_config(str(file)) == emixer.load_config(file) == emixer.load_config([str(file)])
    assert emixer.load_config(str(file)).seed == 7


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        emixer.paint  # noqa: B018 - the access is what fails
