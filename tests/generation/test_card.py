"""The card of a dataset and what an audit states in it."""

from pathlib import Path

from emixer.generation.card import NOT_AUDITED, state_audit, write_card


def test_an_audit_takes_the_place_of_what_was_said_before_and_outlives_the_next_writing(tmp_path: Path) -> None:
    made = f"# Card\n\n{NOT_AUDITED}\n- Another line.\n"
    state_audit(tmp_path, "pass", "No card yet.", "With none.")
    assert not (tmp_path / "README.md").exists()
    write_card(tmp_path, made)
    assert (tmp_path / "README.md").read_text() == made
    state_audit(tmp_path, "fail", "Seven rows.", "With five images.")
    state_audit(tmp_path, "pass", "No row.", "With nine images.")
    write_card(tmp_path, made)
    told = (tmp_path / "README.md").read_text()
    assert "- **Privacy audit: pass.** No row. With nine images. By `emixer audit`" in told
    assert "fail" not in told
    assert "No privacy audit" not in told
    assert told.endswith("\n- Another line.\n")
