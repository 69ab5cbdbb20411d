"""docs/configuration.md says what the code says."""

from pathlib import Path

from emixer.config.reference import reference
from emixer.config.settings import all_settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_configuration_page_is_in_step_with_the_fields() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_page_has_a_row_for_every_setting_and_one_for_kinds_that_have_it_alike() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len({(setting.key, setting.section) for setting in all_settings()})


def test_no_section_is_shown_twice() -> None:
    headings = [line for line in reference().splitlines() if line.startswith("### ")]
    assert len(headings) == len(set(headings))
