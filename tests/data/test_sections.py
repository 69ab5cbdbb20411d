"""Where the findings of a report are, over the varieties of header that real reports have."""

import pytest

from emixer.data.sections import MissingFindings, Outcome, findings_of, findings_or_whole, split_sections

DEFAULT: MissingFindings = "impression-or-last-paragraph"

MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with ?pleural effusion  // ?pleural effusion

 COMPARISON:  None.

 FINDINGS:

 Cardiac size is normal.
 The lungs are clear.

 IMPRESSION:

 No acute process.
"""


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (MIMIC, "Cardiac size is normal. The lungs are clear."),
        ("FINDINGS: First.\n\nIMPRESSION: x.\n\nFINDINGS: Second.", "Second."),
        ("FINDINGS: First.\n\nFINDINGS:\n\nIMPRESSION: x.", "First."),
        ("Findings: Mixed case.\nImpression: x.", "Mixed case."),
        ("FINDING: Singular.\nIMPRESSION: x.", "Singular."),
        ("FINDINGS AND IMPRESSION: Both.\n", "Both."),
        ("FINDINGS/IMPRESSION: Both.\n", "Both."),
        ("IMPRESSION AND FINDINGS:  Both.\n", "Both."),
        ("FINDINGS\n Alone on its line.\n\nIMPRESSION\n x.", "Alone on its line."),
        ("COMPARISON: None. FINDINGS: In mid line. IMPRESSION: x.", "In mid line."),
        ("HISTORY: Cough  FINDINGS: After two spaces.", "After two spaces."),
        ("FINDINGS:\r\n Windows line ends.\r\n\r\nIMPRESSION: x.", "Windows line ends."),
        (
            "FINDINGS: Heart normal.\n\nPORTABLE CHEST: Lungs clear.\n\nIMPRESSION: x",
            "Heart normal. PORTABLE CHEST: Lungs clear.",
        ),
        (
            "FINDINGS: The impression is of edema. Findings are stable.",
            "The impression is of edema. Findings are stable.",
        ),
        (
            "FINDINGS: Clear.\n ______________________________________________________\n FINAL REPORT\n other text",
            "Clear.",
        ),
        ("FINDINGS: Clear.\n\nRECOMMENDATION(S):  Repeat.\n\nNOTIFICATION: Told.", "Clear."),
        ("1. FINDINGS: Numbered header.\n2. IMPRESSION: x", "Numbered header."),
    ],
)
def test_the_last_findings_section_with_text_wins(report: str, text: str) -> None:
    assert findings_of(report, "drop") == (text, Outcome.FINDINGS)


NO_SECTION = "INDICATION: Cough and fever today.\n\nThe lungs are clear of disease.\n\nDr. ___"
ONLY_IMPRESSION = "INDICATION: cough.\n\nIMPRESSION:  No acute process."


@pytest.mark.parametrize(
    ("report", "rule", "expected"),
    [
        (ONLY_IMPRESSION, "drop", (None, Outcome.NO_FINDINGS)),
        (ONLY_IMPRESSION, "keep-without-report", (None, Outcome.NO_FINDINGS)),
        (ONLY_IMPRESSION, "impression", ("No acute process.", Outcome.IMPRESSION)),
        (NO_SECTION, "impression", (None, Outcome.NO_FINDINGS)),
        (NO_SECTION, DEFAULT, ("The lungs are clear of disease.", Outcome.LAST_PARAGRAPH)),
        ("INDICATION: Cough and fever today.", DEFAULT, (None, Outcome.NO_FINDINGS)),
        ("FINDINGS: ___ \n\nIMPRESSION: ___", DEFAULT, (None, Outcome.NO_FINDINGS)),
        ("  \n ", DEFAULT, (None, Outcome.EMPTY)),
    ],
)
def test_a_report_without_findings_follows_the_rule(
    report: str, rule: MissingFindings, expected: tuple[str | None, Outcome]
) -> None:
    assert findings_of(report, rule) == expected


def test_a_table_cell_may_hold_findings_alone_or_a_whole_report() -> None:
    assert findings_or_whole("The lungs are clear.", "drop") == ("The lungs are clear.", Outcome.WHOLE_TEXT)
    assert findings_or_whole(MIMIC, "drop")[1] == Outcome.FINDINGS
    assert findings_or_whole(" ", "drop") == (None, Outcome.EMPTY)


def test_no_text_of_a_report_is_lost_between_sections() -> None:
    sections = split_sections(MIMIC)
    assert [s.name for s in sections] == ["", "other", "other", "other", "other", "findings", "impression"]
    assert "pleural effusion" in sections[3].text
