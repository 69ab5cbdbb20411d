"""Where the findings of a report are, over the varieties of header that real reports have."""

import time

import pytest

from emixer.data.sections import (
    MissingFindings,
    Outcome,
    findings_of,
    findings_or_whole,
    split_sections,
    whole_of_another_language,
)

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
        ("FINDINGS:\n1. Large heart\n2. No effusion\n (3) Nodule", "1. Large heart. 2. No effusion. (3) Nodule"),
        ("FINDINGS: Nodule in segment\n2. It is old.", "Nodule in segment 2. It is old."),
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
        # each item, line of a form or paragraph is a sentence: nothing negates what stands in the next
        (
            "FINDINGS:\n- No effusion\n- Pneumothorax on\n  the left\n\nIMPRESSION: x",
            "No effusion. Pneumothorax on the left",
        ),
        ("FINDINGS:\n* No effusion\n* Pneumothorax.\nIMPRESSION: x", "No effusion. Pneumothorax."),
        ("FINDINGS:\n\u2022 No effusion\n\u2022 Pneumothorax", "No effusion. Pneumothorax"),
        ("FINDINGS:<ul><li>No effusion</li><li>Pneumothorax</li></ul>", "No effusion. Pneumothorax"),
        ("<p>FINDINGS: No effusion</p><p>Pneumothorax</p>", "No effusion. Pneumothorax"),
        ("FINDINGS:\nPleura: No effusion\nHeart: Large", "Pleura: No effusion. Heart: Large"),
        ("FINDINGS:\nNo effusion\n\nPneumothorax on the left", "No effusion. Pneumothorax on the left"),
        ("FINDINGS: Opacity at the base\n- likely atelectasis.", "Opacity at the base - likely atelectasis."),
        # sections within the findings
        ("FINDINGS: Two views. COMPARISON: ___. Lungs clear.\n\nIMPRESSION: x", "Two views. Lungs clear."),
        ("FINDINGS: Two views.\n COMPARISON: ___.\n\n Lungs clear.\n\nIMPRESSION: x", "Two views. Lungs clear."),
        (
            "FINDINGS: Two views.\n HISTORY: Cough.\n Fever.\n\n Lungs clear.\n\nIMPRESSION: x",
            "Two views. Lungs clear.",
        ),
        ("CHEST, PA AND LATERAL: COMPARISON: ___. The lungs are clear.\n\nIMPRESSION: x", "The lungs are clear."),
        ("FINDINGS: Lungs clear.\n\nTECHNIQUE: Two views.\n\nCOMPARISON: None.\n\nIMPRESSION: x", "Lungs clear."),
        ("FINDINGS: Lungs clear.\n\nRECOMMENDATION: CT. Call the ward.\n\nIMPRESSION: x", "Lungs clear."),
        # what is not the report itself
        ("FINAL REPORT\nFINDINGS: Edema.\n\nPRELIMINARY REPORT\nFINDINGS: Clear.", "Edema."),
        ("WET READ: ___\nFINDINGS: Clear.\n__________\nFINAL REPORT\nFINDINGS: Edema.", "Edema."),
        ("FINDINGS: Edema.\nIMPRESSION: x\n\nADDENDUM\nFINDINGS: Told to the ward.", "Edema."),
        ("PRELIMINARY REPORT\nFINDINGS: Edema.\nIMPRESSION: x", "Edema."),
    ],
)
def test_the_last_findings_section_with_text_wins(report: str, text: str) -> None:
    assert findings_of(report, "drop") == (text, Outcome.FINDINGS)


CLEAR = "The lungs are clear. The heart is normal in size."
END = "\nIMPRESSION: No acute disease."


@pytest.mark.parametrize(
    "report",
    [
        # a dash for a colon
        f"FINDINGS - {CLEAR}\nIMPRESSION - No acute disease.",
        f"FINDINGS \u2013 {CLEAR}\nIMPRESSION \u2013 No acute disease.",
        f"FINDINGS \u2014 {CLEAR} IMPRESSION \u2014 No acute disease.",
        f"Findings -- {CLEAR}\nImpression -- No acute disease.",
        f"FINDINGS-{CLEAR}\nIMPRESSION-No acute disease.",
        f"INDICATION - Cough.\nFINDINGS -\n{CLEAR}\nIMPRESSION -\nNo acute disease.",
        f"COMPARISON - None. FINDINGS - {CLEAR} IMPRESSION - No acute disease.",
        # the title of the image
        f"INDICATION: Cough.\n\nCHEST, PA AND LATERAL: {CLEAR}\n\nIMPRESSION: No acute disease.",
        f"INDICATION: Cough.\n\nPA AND LATERAL CHEST: {CLEAR}\n\nIMPRESSION: No acute disease.",
        f"HISTORY: Cough.\n\nPORTABLE CHEST:\n\n{CLEAR}{END}",
        f"HISTORY: Cough.\n\nCHEST (PA AND LAT): {CLEAR}{END}",
        f"HISTORY: Cough.\n\nCHEST X-RAY, 2 VIEWS: {CLEAR}{END}",
        f"HISTORY: Cough.\nXR CHEST 2 V: {CLEAR}{END}",
        f"HISTORY: Cough.\nChest radiograph, two views: {CLEAR}{END}",
        f"HISTORY: Cough.\nFRONTAL AND LATERAL VIEWS OF THE CHEST: {CLEAR}{END}",
        f"SINGLE AP UPRIGHT VIEW OF THE CHEST: {CLEAR}{END}",
        f"**CHEST, TWO VIEWS:** {CLEAR}{END}",
        f"CHEST, PA AND LATERAL: 12:30\n\nREPORT: {CLEAR}{END}",
        f"CHEST, PA AND LATERAL:\n\nHISTORY: Cough.\n\nFINDINGS: {CLEAR}{END}",
        f"FINDINGS: {CLEAR}\n\nIMPRESSION: x.\n\nPORTABLE CHEST: Compared with the film of yesterday.",
        f"CHEST, PA AND LATERAL: Compared with the film of yesterday.\n\nFINDINGS: {CLEAR}{END}",
        # other names
        f"REPORT: {CLEAR}{END}",
        f"Report:\n{CLEAR}{END}",
        f"RADIOLOGY REPORT: {CLEAR}{END}",
        f"OBSERVATIONS: {CLEAR}{END}",
        f"OBSERVATION:\r\n{CLEAR}\r\nCONCLUSION: No acute disease.",
        f"RESULTS: {CLEAR}{END}",
        f"DESCRIPTION: {CLEAR}\nOPINION: No acute disease.",
        f"CHEST X-RAY FINDINGS: {CLEAR}{END}",
        f"FINDINGS (PA AND LATERAL): {CLEAR}{END}",
        f"REPORT:\nINDICATION: Cough.\nFINDINGS: {CLEAR}{END}",
        f"FINDINGS: {CLEAR}{END}\nREPORT: This was read by the night team.",
        f"FINDINGS AND IMPRESSION - {CLEAR}",
        f"Findings/Impression: {CLEAR}",
        # rules
        f"FINDINGS:\n____________________________________\n{CLEAR}{END}",
        f"FINDINGS\n========\n{CLEAR}\nIMPRESSION\n==========\nNo acute disease.",
        f"FINDINGS:\n---\n{CLEAR}\n---\nIMPRESSION: No acute disease.",
        f"____________\nFINDINGS:\n____________\n\n{CLEAR}\n____________\nIMPRESSION:\n____________\nNo acute disease.",
        f"FINDINGS: ____________\n{CLEAR}{END}",
        "FINDINGS:\n" + "\u2500" * 12 + f"\n{CLEAR}{END}",
        # Markdown
        f"**FINDINGS:** {CLEAR}\n**IMPRESSION:** No acute disease.",
        f"**FINDINGS**: {CLEAR}\n**IMPRESSION**: No acute disease.",
        f"**Findings**\n{CLEAR}\n\n**Impression**\nNo acute disease.",
        f"__FINDINGS:__ {CLEAR}\n__IMPRESSION:__ No acute disease.",
        f"*Findings:* {CLEAR}\n*Impression:* No acute disease.",
        f"## Findings\n\n{CLEAR}\n\n## Impression\n\nNo acute disease.",
        f"### FINDINGS:\n{CLEAR}\n### IMPRESSION:\nNo acute disease.",
        f"- FINDINGS: {CLEAR}\n- IMPRESSION: No acute disease.",
        "**FINDINGS:** The lungs are **clear**. *The heart* is normal in size.",
        # HTML
        f"FINDINGS:<br>{CLEAR}<br>IMPRESSION:<br>No acute disease.",
        f"<p><b>FINDINGS:</b> {CLEAR}</p><p><b>IMPRESSION:</b> No acute disease.</p>",
        f"<strong>Findings</strong><br/>{CLEAR}<br /><strong>Impression</strong><br/>No acute disease.",
        f"<h2>Findings</h2><div>{CLEAR}</div><h2 class='x'>Impression</h2>No acute disease.",
        f"FINDINGS:&nbsp;{CLEAR}<BR>IMPRESSION: No acute disease.",
        # lines and case
        f"findings: {CLEAR}\nimpression: no acute disease.",
        f"Portable chest of today\n\nfindings: {CLEAR}",
        f"FINDINGS:\r{CLEAR}\rIMPRESSION: x.",
        "FINDINGS:\r\nThe lungs are clear.\r\nThe heart is normal in size.\r\n\r\nIMPRESSION:\r\nx.",
        # addenda
        f"FINDINGS: {CLEAR}{END}\n\nADDENDUM: Told to the ward at 12:30.",
        f"ADDENDUM #1: Told to the ward.\n\nFINDINGS: {CLEAR}{END}",
    ],
)
def test_findings_are_found_whatever_the_layout(report: str) -> None:
    assert findings_of(report, "drop") == (CLEAR, Outcome.FINDINGS)
    assert findings_or_whole(report, "drop") == (CLEAR, Outcome.FINDINGS)


@pytest.mark.parametrize(
    "text",
    [
        "The tube was changed at 12:30. The film of 14:05 shows it in place.",
        "There are two nodules: one left, one right.",
        "LUNGS: Clear. HEART: Normal. BONES: Normal.",
        "The ratio is 1:2. Note: rotated film.",
        "Opacities of these\nfindings: an infection or edema.",
        "Compared with the prior study - no change - the lungs are clear.",
        "No change in\nfindings - the lungs are clear.",
        "The nodule measures <5 mm & is smooth; 3 > 2.",
        "PORTABLE CHEST: Clear lungs on this film.",
        "Seen on ___ by **DATE[x] the mask stays.",
        "Please see the left base, where a nodule is seen above the diaphragm.",
        "X-RAY-guided biopsy. POST-REPORT-change none.",
    ],
)
def test_what_only_looks_like_a_header_or_a_layout_stays_in_the_findings(text: str) -> None:
    assert findings_of(f"FINDINGS: {text}{END}", "drop") == (" ".join(text.split()), Outcome.FINDINGS)


@pytest.mark.parametrize(
    "reference",
    [
        "See impression.", "Please see impression below.", "See below", "As above.", "As described in the impression.",
        "See the impression section.", "Refer to the impression.", "As per impression.", "Same as impression.",
        "Findings are as below.", "<br>See impression.<br>", "**See impression.**", "SEE IMPRESSION", "See report.",
        "Please see the full report below.", "Combined with the impression.",
    ],
)  # fmt: skip
def test_findings_that_only_point_elsewhere_are_missing(reference: str) -> None:
    report = f"FINDINGS: {reference}\nIMPRESSION: {CLEAR}"
    assert findings_of(report, "drop") == (None, Outcome.NO_FINDINGS)
    assert findings_of(report, DEFAULT) == (CLEAR, Outcome.IMPRESSION)
    assert findings_of(f"REPORT: {CLEAR}\n{report}", "drop") == (CLEAR, Outcome.FINDINGS)


def test_a_report_in_small_letters_has_headers_in_small_letters() -> None:
    report = "findings: the lungs are clear. scoliosis is unchanged\nimpression: stable chest."
    assert findings_of(report, "drop") == ("the lungs are clear. scoliosis is unchanged", Outcome.FINDINGS)


def test_a_pointer_among_other_words_is_a_finding() -> None:
    text = "Small nodule, see impression."
    assert findings_of(f"FINDINGS: {text}{END}", "drop") == (text, Outcome.FINDINGS)


def test_impression_of_the_report_wins_over_findings_of_its_wet_read() -> None:
    report = "WET READ: ___\nFINDINGS: Clear.\n__________\nFINAL REPORT\nINDICATION: x\n\nIMPRESSION: Edema."
    assert findings_of(report, DEFAULT) == ("Edema.", Outcome.IMPRESSION)
    assert findings_of(report, "drop") == (None, Outcome.NO_FINDINGS)


def test_an_impression_that_only_points_back_is_no_text() -> None:
    assert findings_of("FINDINGS: ___\nIMPRESSION: As above.", "impression") == (None, Outcome.NO_FINDINGS)


@pytest.mark.parametrize(
    "piece",
    [
        " ", "\n", "\n    ", "_", "-", "*", "*a ", "&", "<br", "FINDINGS ", "FINDINGS\n________\n", "FINDINGS (",
        "CHEST, ", "\nfindings:", "REASON        ", "# ", "1. ", "see ", f"{CLEAR} ",
    ],
)  # fmt: skip
def test_the_time_grows_with_the_length_of_a_report_and_no_faster(piece: str) -> None:
    def seconds(length: int) -> float:
        report = piece * (length // len(piece))
        begin = time.process_time()
        findings_of(report, DEFAULT)
        return time.process_time() - begin

    assert seconds(500_000) < 40 * max(seconds(50_000), 0.01), "ten times the text"


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
        ("REPORT: Chest today.\n\nIMPRESSION: Clear.", DEFAULT, ("Clear.", Outcome.IMPRESSION)),
        ("REPORT: Chest clear again today.\n\nIMPRESSION: x.", DEFAULT, ("Chest clear again today.", Outcome.FINDINGS)),
        ("  \n ", DEFAULT, (None, Outcome.EMPTY)),
    ],
)
def test_a_report_without_findings_follows_the_rule(
    report: str, rule: MissingFindings, expected: tuple[str | None, Outcome]
) -> None:
    assert findings_of(report, rule) == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (f"   FINAL REPORT\n {CLEAR}\n", (CLEAR, Outcome.LAST_PARAGRAPH)),
        (f"MEDICAL CONDITION:\n 50 year old.\n{'_' * 30}\n FINAL REPORT\n{CLEAR}", (CLEAR, Outcome.LAST_PARAGRAPH)),
        ("UNDERLYING MEDICAL CONDITION: fever for two days.\n", (None, Outcome.NO_FINDINGS)),
        (f"INDICATION: Cough.\n\n{CLEAR}\n\nElectronically signed by: ___ on ___", (CLEAR, Outcome.LAST_PARAGRAPH)),
        ("HISTORY: Cough.\n\nSUMMARY: No acute disease.", ("No acute disease.", Outcome.IMPRESSION)),
        (f"FINDINGS: {CLEAR}\nSUMMARY: No acute disease.", (CLEAR, Outcome.FINDINGS)),
        (
            "PROCEDURE COMMENTS: One view of the chest.\n\nIMPRESSION: 1. Clear.\n\nEND OF IMPRESSION:\n\n"
            "SUMMARY: 2-ABNORMAL, PREVIOUSLY REPORTED\n\nACCESSION NUMBER: 7",
            ("1. Clear.", Outcome.IMPRESSION),
        ),
        (
            "CLINICAL HISTORY: 50 years.\n\nPROCEDURE COMMENTS: One view of the chest.\n\nSUMMARY: 2-ABNORMAL",
            (None, Outcome.NO_FINDINGS),
        ),
    ],
)
def test_what_stands_around_a_report_is_not_taken_for_it(report: str, expected: tuple[str | None, Outcome]) -> None:
    assert findings_of(report, DEFAULT) == expected


def test_a_table_cell_may_hold_findings_alone_or_a_whole_report() -> None:
    assert findings_or_whole("The lungs are clear.", "drop") == ("The lungs are clear.", Outcome.WHOLE_TEXT)
    assert findings_or_whole(MIMIC, "drop")[1] == Outcome.FINDINGS
    assert findings_or_whole(" ", "drop") == (None, Outcome.EMPTY)
    assert findings_or_whole("The lungs<br>are **clear**.", "drop") == ("The lungs are clear.", Outcome.WHOLE_TEXT)


def test_no_text_of_a_report_is_lost_between_sections() -> None:
    sections = split_sections(MIMIC)
    assert [s.name for s in sections] == ["", "other", "other", "other", "other", "findings", "impression"]
    assert "pleural effusion" in sections[3].text


@pytest.mark.parametrize("header", ["FINDINS", "FINDGINGS", "FINDNINGS", "FINIDNGS"])
def test_section_headers_that_mimic_cxr_misspells_begin_a_section(header: str) -> None:
    # those that MIT-LCP's own parser of mimic-cxr lists
    report = f"COMPARISON: None.\n\n{header}:\nThe lungs are clear.\n\nIMPRESSON: No acute disease.\n"
    assert findings_of(report, "drop")[0] == "The lungs are clear."


def test_report_in_another_language_without_a_word_is_none_and_costs_no_image() -> None:
    assert whole_of_another_language(". . . .") == (None, Outcome.NOT_GIVEN)
    assert whole_of_another_language("derram pleural .") == ("derram pleural .", Outcome.OTHER_LANGUAGE)
