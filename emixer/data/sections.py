"""The findings of a radiology report: where they stand, and what is taken when they have no section.

A header is a known section name followed by a colon: in capitals anywhere after a sentence, in any case at the start of
a line, or alone on a line of its own. Headers that are not known (LUNGS:, PORTABLE CHEST:) belong to the section they
stand in. The last section named findings that has any text wins; FINDINGS AND IMPRESSION counts as findings.

Every report comes to one `Outcome`; none is dropped without being counted.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from emixer.data.text import clean_text

SECTION_VERSION = 1
MissingFindings = Literal["drop", "impression", "impression-or-last-paragraph", "keep-without-report"]


class Outcome(StrEnum):
    """Where the text of a film's report came from, or why there is none."""

    FINDINGS = "findings section"
    IMPRESSION = "impression section"
    LAST_PARAGRAPH = "last paragraph"
    WHOLE_TEXT = "whole text"
    OTHER_LANGUAGE = "whole text, not in English"
    NO_FINDINGS = "report without findings"
    EMPTY = "report is empty"
    MISSING = "report is missing"
    NOT_UTF8 = "report is not UTF-8"
    NOT_REGULAR = "report is not a regular file"
    NOT_GIVEN = "collection has no reports"


@dataclass(frozen=True)
class Section:
    """name: canonical, "" for what stands before the first header. text: the body, lines and all."""

    name: str
    text: str


_NAMES = {
    "findings": r"FINDINGS?(?:\s*(?:AND|&|/|,|OR)\s*(?:IMPRESSIONS?|CONCLUSIONS?))?"
    r"|IMPRESSIONS?\s*(?:AND|&|/)\s*FINDINGS?|(?:CHEST|RADIOGRAPHIC|X-?RAY)\s+FINDINGS",
    "impression": r"(?:FINAL\s+)?IMPRESSIONS?|CONCLUSIONS?|OPINION",
    "other": r"(?:CLINICAL\s+)?(?:INDICATIONS?|HISTORY|INFORMATION|DATA|STATEMENT|QUESTION)"
    r"|REASON\s+FOR\s+(?:THIS\s+)?(?:EXAM|EXAMINATION|STUDY)|INDICATIONS?\s+(?:AND|FOR)\s+\w+"
    r"|COMPARISONS?(?:\s+(?:STUDY|STUDIES|EXAMS?|FILMS?))?|TECHNIQUES?|EXAM(?:INATION)?S?(?:\s+TYPE)?|STUDY|PROCEDURES?"
    r"|(?:WET|PRELIMINARY)\s+(?:READ|REPORT)|(?:FINAL|INTERIM)\s+REPORT|NOTIFICATIONS?|RECOMMENDATIONS?(?:\(S\))?"
    r"|ADDEND(?:UM|A)(?:\s*#?\s*\d+)?|DOSE|CONTRAST|ATTENDING|SIGNED(?:\s+BY)?|DICTATED(?:\s+BY)?",
}
_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _NAMES.items()}
_PHRASE = "|".join(_NAMES.values())
_HEADER = re.compile(
    rf"^[ \t]*(?:[*#-]+[ \t]*|\d{{1,2}}[.)][ \t]*)?(?:(?P<any_case>(?i:{_PHRASE}))[ \t]*:|(?P<alone>{_PHRASE})[ \t]*$)"
    rf"|(?:(?<=[.:;?!]\s)|(?<=[.:;?!]\s\s)|(?<=\s\s))(?P<inline>{_PHRASE})[ \t]*:",
    re.MULTILINE,
)
_RULE = re.compile(r"^[ \t]*(?:_{8,}|-{8,}|={8,})[ \t]*$", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_LAST_PARAGRAPH_WORDS = 4


def split_sections(report: str) -> list[Section]:
    """The report in order; a line of underscores ends a section too."""
    text = report.replace("\r\n", "\n").replace("\r", "\n")
    marks = [(m.start(), m.end(), _name(m)) for m in _HEADER.finditer(text)]
    marks += [(m.start(), m.end(), "") for m in _RULE.finditer(text)]
    marks = [(0, 0, ""), *sorted(marks)]
    ends = [start for start, _, _ in marks[1:]] + [len(text)]
    return [Section(name, text[begin:end]) for (_, begin, name), end in zip(marks, ends, strict=True)]


def findings_of(report: str, rule: MissingFindings) -> tuple[str | None, Outcome]:
    """The findings as clean text, and where they came from; None where the rule finds nothing to take."""
    if not report.strip():
        return None, Outcome.EMPTY
    sections = split_sections(report)
    findings = _last(sections, "findings")
    if findings is not None:
        return findings, Outcome.FINDINGS
    if rule in ("impression", "impression-or-last-paragraph"):
        impression = _last(sections, "impression")
        if impression is not None:
            return impression, Outcome.IMPRESSION
    if rule == "impression-or-last-paragraph":
        paragraph = _last_paragraph(sections)
        if paragraph is not None:
            return paragraph, Outcome.LAST_PARAGRAPH
    return None, Outcome.NO_FINDINGS


def findings_or_whole(text: str, rule: MissingFindings) -> tuple[str | None, Outcome]:
    """Like `findings_of` for a table cell, which may hold a whole report or the findings alone."""
    if any(section.name for section in split_sections(text)):
        return findings_of(text, rule)
    clean = clean_text(text)
    return (clean, Outcome.WHOLE_TEXT) if _has_words(clean) else (None, Outcome.EMPTY)


def whole_of_another_language(text: str) -> tuple[str | None, Outcome]:
    """Clean text of a report whose sections and words nothing here knows."""
    clean = clean_text(text)
    return (clean, Outcome.OTHER_LANGUAGE) if _has_words(clean) else (None, Outcome.EMPTY)


def _name(match: re.Match[str]) -> str:
    phrase = match["any_case"] or match["alone"] or match["inline"]
    return next(name for name, pattern in _PATTERNS.items() if pattern.fullmatch(phrase))


def _last(sections: list[Section], name: str) -> str | None:
    texts = (clean_text(section.text) for section in reversed(sections) if section.name == name)
    return next((text for text in texts if _has_words(text)), None)


def _last_paragraph(sections: list[Section]) -> str | None:
    """The last paragraph that is not the first one under a header that announces something else."""
    for section in reversed(sections):
        paragraphs = _PARAGRAPH.split(section.text.strip("\n"))
        if section.name:
            paragraphs = paragraphs[1:]
        for paragraph in reversed(paragraphs):
            text = clean_text(paragraph)
            if sum(any(c.isalpha() for c in word) for word in text.split()) >= _LAST_PARAGRAPH_WORDS:
                return text
    return None


def _has_words(text: str) -> bool:
    return any(c.isalpha() for c in text)
