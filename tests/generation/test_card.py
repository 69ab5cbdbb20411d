"""The card of a dataset and what an audit states in it."""

from pathlib import Path

import pytest

from emixer.generation.card import NOT_AUDITED, state_audit


def test_an_audit_takes_the_place_of_what_was_said_before(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"# Card\n\n{NOT_AUDITED}\n- Another line.\n")
    state_audit(tmp_path, "fail", "Seven rows.", "With five images.")
    state_audit(tmp_path, "pass", "No row.", "With nine images.")
    told = card.read_text()
    assert "- **Privacy audit: pass.** No row. With nine images. By `emixer audit`" in told
    assert "fail" not in told
    assert "No privacy audit" not in told
    assert told.endswith("\n- Another line.\n")


@pytest.mark.parametrize("edited", ["# Our dataset\n\nLicence: CC BY-NC 4.0.\n", None], ids=["line removed", "no card"])
def test_outcome_of_an_audit_is_stated_on_a_card_that_says_nothing_of_it(edited: str | None, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    if edited is not None:
        card.write_text(edited)
    for verdict in ("fail", "pass"):
        state_audit(tmp_path, verdict, "Seven rows.", "With five images.")
    told = card.read_text()
    assert told.startswith(edited or "# ")
    assert told.count("**Privacy audit: pass.**") == 1
    assert "fail" not in told
