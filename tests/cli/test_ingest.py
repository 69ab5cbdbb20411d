"""Each source has a command, whether it was written or made from the section of its settings."""

from typing import get_args

import pytest
from click.testing import CliRunner

from emixer.cli.ingest import command
from emixer.config.base import Section
from emixer.config.ingest import Source

SOURCES: tuple[type[Section], ...] = get_args(get_args(Source)[0])


@pytest.mark.parametrize("section", SOURCES)
def test_the_command_of_a_source_has_a_flag_for_each_of_its_settings(section: type[Section]) -> None:
    text = CliRunner().invoke(command, [section.model_fields["kind"].default, "--help"]).output
    for name in set(section.model_fields) - {"kind"}:
        assert f"  --{name.replace('_', '-')} " in text


def test_what_a_made_command_needs_is_what_its_section_requires() -> None:
    result = CliRunner().invoke(command, ["brax"])
    assert result.exit_code
    assert "ingest.source.root and ingest.out are not set. Give --root and --out" in result.output
