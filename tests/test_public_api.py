"""What `import emixer` gives, and the page that tells of it."""

import re
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
