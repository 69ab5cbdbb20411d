"""The findings of a radiology report: where they stand, and what is taken when they have no section.

A header is a known section name before a colon or a dash: in capitals anywhere after a sentence, in any case at the
start of a line, or alone on a line of its own, in capitals or marked as a heading. Markdown and HTML count as layout.
Headers that are not known (LUNGS:) belong to the section they stand in.

The last section named findings that has any text wins; FINDINGS AND IMPRESSION counts as findings. Without one, the
body is taken: what stands under REPORT:, OBSERVATIONS:, or the title of a chest image (CHEST, PA AND LATERAL:), which
is a header only before the findings and the impression. Sections that only point to another one ("See impression.")
have no text. A wet read, a preliminary report and an addendum count only if the report itself says nothing. What
follows a COMPARISON: within the findings belongs to them.

Items of a list, lines of a form (HEART: ...) and paragraphs are sentences, with a full stop or without.

Every report comes to one `Outcome`; none is dropped without being counted.
"""

import html
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from emixer.data.text import clean_text

SECTION_VERSION = 6
MissingFindings = Literal["drop", "impression", "impression-or-last-paragraph", "keep-without-report"]


class Outcome(StrEnum):
    """Where the text of an image's report came from, or why there is none."""

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
    NOT_GIVEN = "no report in the collection"


@dataclass(frozen=True)
class Section:
    """name: canonical, "" for what stands before the first header. text: the body, lines and all.

    header: as it is written. is_aside: part of a wet read, a preliminary report or an addendum.
    """

    name: str
    text: str
    header: str = ""
    is_aside: bool = False

    @property
    def is_titled(self) -> bool:
        """Whether the header is the title of the whole report (FINAL REPORT), which may begin right below it."""
        return bool(_WHOLE_REPORT.search(self.header))


_FINDINGS = r"(?:FINDINGS?|FINDINS|FINDDINGS|FINDINDGS|FINDGINGS|FINDNGS|FINDNINGS|FINIDNGS|FIDNINGS)"
_IMPRESSIONS = r"(?:IMPRESSIONS?|IMPRESSON|IMPRESION|IMPESSION|IMPRSSION|IMPRRESSION|IMPRESSIION|IMPRESSIOM|IMRESSION)"
"""With the slips of typists in MIMIC-CXR, some twenty reports, and others as near."""
_NAMES = {
    "findings": rf"{_FINDINGS}(?:\s*(?:AND|&|/|,|OR)\s*(?:IMPRESSIONS?|CONCLUSIONS?))?"
    r"|IMPRESSIONS?\s*(?:AND|&|/)\s*FINDINGS?|(?:CHEST|RADIOGRAPHIC|RADIOLOGICAL|IMAGING|(?:CHEST\s+)?X-?RAY)\s+FINDINGS",
    "impression": rf"(?:FINAL\s+)?{_IMPRESSIONS}|CONCLUSIONS?|OPINION|SUMMARY",
    "other": r"(?:CLINICAL\s+)?(?:INDICATIONS?|HISTORY|INFORMATION|DATA|STATEMENT|QUESTION)"
    r"|REASON\s+FOR\s+(?:THIS\s+)?(?:EXAM|EXAMINATION|STUDY)|INDICATIONS?\s+(?:AND|FOR)\s+\w+"
    r"|COMPARISONS?(?:\s+(?:STUDY|STUDIES|EXAMS?|FILMS?))?|TECHNIQUES?|EXAM(?:INATION)?S?(?:\s+TYPE)?|STUDY|PROCEDURES?"
    r"|(?:WET|PRELIMINARY)\s+(?:READ|REPORT)|(?:FINAL|INTERIM)\s+REPORT|NOTIFICATIONS?|RECOMMENDATIONS?(?:\(S\))?"
    r"|ADDEND(?:UM|A)(?:\s*#?\s*\d+)?|DOSE|CONTRAST|ATTENDING|(?:ELECTRONICALLY\s+)?SIGNED(?:\s+BY)?|DICTATED(?:\s+BY)?"
    r"|(?:UNDERLYING\s+)?MEDICAL\s+CONDITION|PROCEDURE\s+COMMENTS?|END\s+OF\s+IMPRESSION|ACCESSION\s+NUMBER",
    "body": r"(?:RADIOLOGY\s+|X-?RAY\s+)?REPORT|(?:RADIOGRAPHIC\s+)?OBSERVATIONS?|RESULTS?|DESCRIPTION",
}
_WHOLE_REPORT = re.compile(r"(?:FINAL|INTERIM)\s+REPORT", re.IGNORECASE)
_ASIDE = re.compile(r"(?:WET|PRELIMINARY)\s+(?:READ|REPORT)|ADDEND", re.IGNORECASE)
_ABOUT_IMAGES = re.compile(r"COMPARISON|TECHNIQUE", re.IGNORECASE)
_ABOUT_PATIENT = re.compile(r"INDICATION|HISTORY|REASON", re.IGNORECASE)
_FIRST_PARAGRAPH = re.compile(r"\A\s*\S.*?\n[ \t]*(?=\n)", re.DOTALL)
_FIRST_SENTENCE = re.compile(rf"\A\s*[^\s.][^.]*\.(?=\s)|{_FIRST_PARAGRAPH.pattern}", re.DOTALL)
_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _NAMES.items()}
_PHRASE = "|".join(_NAMES.values())
_ALONE = "|".join(pattern for name, pattern in _NAMES.items() if name != "body")
"""A REPORT alone on its line is a title."""
_TITLE_WORD = (
    r"(?:CHEST|THORAX|CXR|X-?RAYS?|XR|CR|DX|RADIOGRAPH(?:S|Y|IC)?|FILMS?|IMAGES?|EXAM(?:INATION)?|STUDY|SERIES|VIEWS?|PA|AP"
    r"|LAT|LATERAL|FRONTAL|PORTABLE|BEDSIDE|MOBILE|UPRIGHT|ERECT|SUPINE|SEMI-?(?:UPRIGHT|ERECT)|ROUTINE|SINGLE|ONE|TWO"
    r"|THREE|[1-4]|AND|OF|THE|WITH|OR|V)"
)
_TITLE = rf"(?=[^\n:]{{0,80}}?(?:CHEST|THORAX|CXR))(?:{_TITLE_WORD}(?![A-Za-z])[ \t,/&()+.-]{{0,3}}){{1,12}}"
_EMPHASIS = r"(?:\*{1,3}|__)?"
# A dash must not be the hyphen of a word, nor the dash of a sentence that a line break divides
_ENDS_HEADER = (
    rf"{_EMPHASIS}(?:[ \t]{{0,8}}\([^()\n]{{0,60}}\))?[ \t]{{0,8}}"
    rf"(?::{_EMPHASIS}|(?<=[A-Za-z)*_])-{{1,3}}(?=\s?[A-Z])|(?<=[ \t])-{{1,3}}(?=\s))"
)
_HEADER = re.compile(
    rf"^[ \t]*+[*#>_-]{{0,6}}[ \t]{{0,8}}(?:\d{{1,2}}[.)][ \t]{{0,8}})?{_EMPHASIS}"
    rf"(?:(?P<any_case>(?i:{_PHRASE})){_ENDS_HEADER}|(?P<alone>{_ALONE})[ \t]*$|(?P<title>(?=[A-Z])(?i:{_TITLE})):)"
    rf"|^[ \t]*+(?:\#{{1,6}}[ \t]+|\*{{1,3}}|__)(?P<marked>(?i:{_PHRASE})){_EMPHASIS}[ \t]*$"
    rf"|(?:(?<=[.:;?!]\s)|(?<=[.:;?!]\s\s)|(?<=\s\s))(?:\*{{1,3}}|__)?(?P<inline>{_PHRASE}){_ENDS_HEADER}",
    re.MULTILINE,
)
_RULE = re.compile(r"^[ \t]*+(?:_{8,}|-{8,}|={8,}|\*{8,})[ \t]*+$", re.MULTILINE)
_ORNAMENT = re.compile(r"^[ \t]*+(?:_{8,}|[-=*~#]{3,})[ \t]*+$|\A\s*+(?:_{8,}|[-=*~#]{2,})(?=\s)", re.MULTILINE)
_ITEMS = tuple(
    (re.compile(rf"^[ \t]*+{first}", re.MULTILINE), re.compile(rf"(?<=[^\s.:;!?,])[ \t]*+\n\s*+(?={each})"), least)
    for first, each, least in (
        (r"\(?1[.)][ \t]+[^\W\d_]", r"\(?\d{1,2}[.)][ \t]+[^\W\d_]", 1),
        (r"[-*+][ \t]+[^\W\d_]", r"[-*+][ \t]+[^\W\d_]", 2),
        (r"[A-Z][A-Za-z /,&()-]{1,40}:[ \t]", r"[A-Z][A-Za-z /,&()-]{1,40}:[ \t]", 2),
    )
)
"""Of a list or form without full stops, each line of which is a sentence: how a line begins that shows one, how many
of them do, and where the sentences end."""
_BULLET = re.compile(r"^[ \t]*+[-*+][ \t]+(?=[^\W\d_])", re.MULTILINE)
_PARAGRAPH_END = re.compile(r"(?<=[^\s.:;!?,])[ \t]*+\n[ \t]*+\n\s*+(?=[A-Z])")
_STRONG = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]{1,200})(?<=[^\s*])\1(?![\w*])")
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>br|p|div|li|ul|ol|tr|td|table|h[1-6]|b|strong|i|em|u|span|font|pre)\b[^<>]{0,200}>", re.I
)
_ENTITY = re.compile(r"&(?:[a-z]{2,8}|#\d{1,6}|#x[0-9a-f]{1,6});", re.IGNORECASE)
_SAME_SIGN = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2500\u2501", "-")
    | dict.fromkeys("\u2022\u2023\u2043\u00b7\u25aa\u25cf\u25e6", "*")
    | {"\uff1a": ":", "\u00a0": " "}
)
_REFERENCE = re.compile(
    r"(?:findings?\s+)?(?:(?:are|is)\s+)?(?:please\s+|kindly\s+)?"
    r"(?:see|refer\s+to|same\s+as|per|as|(?:as\s+)?(?:described|discussed|stated|noted|listed|given|detailed|included|reported)"
    r"(?:\s+(?:in|under|with))?|as\s+(?:in|per|under)|combined\s+with)"
    r"(?:\s+(?:the|full|final|section|under|in|combined|dictated|attached)){0,3}"
    r"\s+(?:findings?|impressions?|conclusions?|opinion|report|above|below)"
    r"(?:\s+(?:sections?|above|below|for|details|full|report|and|findings?|impressions?)){0,4}[\s.!]*",
    re.IGNORECASE,
)
_CODE = re.compile(r"\d\s?-[A-Z ,]+")
"""A summary of CheXpert Plus, such as 2-ABNORMAL, PREVIOUSLY REPORTED."""
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_LAST_PARAGRAPH_WORDS = 4


def split_sections(report: str) -> list[Section]:
    """The report in order; a line of underscores ends a section that has begun, too."""
    text = _plain_layout(report)
    has_capitals = text != text.lower()
    found = [m for m in _HEADER.finditer(text) if not (has_capitals and _inside_sentence(text, m))]
    marks = [(m.start(), m.end(), m) for m in found]
    rules = [(m.start(), m.end(), None) for m in _RULE.finditer(text)]
    sections = [(0, 0, "")]
    for start, end, match in sorted([*marks, *rules], key=lambda mark: mark[:2]):
        _, begin, name = sections[-1]
        if start < begin:
            continue
        if match is None:
            if not name or _has_words(text[begin:start]):  # else it underlines the header
                sections.append((start, end, ""))
        elif match["title"] is None:
            sections.append((start, end, _name(match)))
        elif name in ("", "other"):
            sections.append((start, end, "body"))
    ends = [start for start, _, _ in sections[1:]] + [len(text)]
    parts, is_aside = [], False
    for (start, begin, name), end in zip(sections, ends, strict=True):
        header = text[start:begin]
        if not name or _WHOLE_REPORT.search(header):  # a line of underscores, or the report itself
            is_aside = False
        is_aside |= bool(_ASIDE.search(header))
        parts.append(Section(name, text[begin:end], header, is_aside))
    return parts


def findings_of(report: str, rule: MissingFindings) -> tuple[str | None, Outcome]:
    """The findings as clean text, and where they came from; None where the rule finds nothing to take."""
    if not report.strip():
        return None, Outcome.EMPTY
    sections = split_sections(report)
    final = [section for section in sections if not section.is_aside]
    if len(final) < len(sections) and _says_something(final):
        sections = final
    sections = _with_interrupted_findings(sections)
    findings = _last(sections, "findings") or _last(sections, "body", _LAST_PARAGRAPH_WORDS)
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


def _says_something(sections: list[Section]) -> bool:
    names = ("findings", "body", "impression")
    return any(_last(sections, name) for name in names) or _last_paragraph(sections) is not None


def _with_interrupted_findings(sections: list[Section]) -> list[Section]:
    """The same, with what follows the comparison, technique or history that stands between findings and impression."""
    whole: list[Section] = []
    interruptions: list[str] = []
    next_name = ""
    for section in reversed(sections):
        if section.name != "other":
            if section.name in ("findings", "body"):
                section = replace(section, text="\n\n".join([section.text, *reversed(interruptions)]))
            next_name = section.name
            interruptions = []
        elif next_name == "impression":
            interruptions.append(_beyond_its_header(section))
        whole.append(section)
    return whole[::-1]


def _beyond_its_header(section: Section) -> str:
    """What stands in a section after what its header announces: one sentence of images, a paragraph of the patient."""
    if _ABOUT_IMAGES.search(section.header):
        found = _FIRST_SENTENCE.match(section.text)
    elif _ABOUT_PATIENT.search(section.header):
        found = _FIRST_PARAGRAPH.match(section.text)
    else:
        return ""
    return section.text[found.end() :] if found else ""


def findings_or_whole(text: str, rule: MissingFindings) -> tuple[str | None, Outcome]:
    """Like `findings_of` for a table cell, which may hold a whole report or the findings alone."""
    if any(section.name for section in split_sections(text)):
        return findings_of(text, rule)
    clean = _clean(_plain_layout(text))
    return (clean, Outcome.WHOLE_TEXT) if _has_words(clean) else (None, Outcome.EMPTY)


def whole_of_another_language(text: str) -> tuple[str | None, Outcome]:
    """Clean text of a report whose sections and words nothing here knows; one of dots alone is none."""
    clean = clean_text(text)
    return (clean, Outcome.OTHER_LANGUAGE) if _has_words(clean) else (None, Outcome.NOT_GIVEN)


def _plain_layout(report: str) -> str:
    """One kind of line end, dash and colon; HTML as lines and Markdown."""
    text = report.replace("\r\n", "\n").replace("\r", "\n").translate(_SAME_SIGN)
    text = _TAG.sub(_as_markdown, text)
    return _ENTITY.sub(lambda match: html.unescape(match.group()).translate(_SAME_SIGN), text)


def _as_markdown(tag: re.Match[str]) -> str:
    name = tag["name"].lower()
    if name in ("b", "strong"):
        return "**"
    if name in ("i", "em", "u", "span", "font"):
        return ""
    if name == "li" and not tag["end"]:
        return "\n- "
    if name in ("br", "td"):
        return "\n"
    return "\n\n## " if name[0] == "h" and not tag["end"] else "\n\n"


def _inside_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether a small letter goes on with a sentence of the line before, which a line break divides."""
    phrase = match["any_case"]
    if phrase is None or not phrase[0].islower():
        return False
    before = match.start()
    while before and text[before - 1].isspace():
        before -= 1
    return before > 0 and text[before - 1] not in ".:;?!" and text.count("\n", before, match.start("any_case")) < 2


def _name(match: re.Match[str]) -> str:
    phrase = match["any_case"] or match["alone"] or match["marked"] or match["inline"]
    return next(name for name, pattern in _PATTERNS.items() if pattern.fullmatch(phrase))


def _last(sections: list[Section], name: str, min_words: int = 1) -> str | None:
    texts = (_clean(section.text) for section in reversed(sections) if section.name == name)
    told = (text for text in texts if not _REFERENCE.fullmatch(text) and not _CODE.fullmatch(text))
    return next((text for text in told if _num_words(text) >= min_words), None)


def _clean(text: str) -> str:
    text = _ORNAMENT.sub(" ", text)
    for line, end_before, least in _ITEMS:
        if len(line.findall(text)) >= least:
            text = end_before.sub(".\n", text)
    if len(_BULLET.findall(text)) > 1:
        text = _BULLET.sub("", text)
    text = _PARAGRAPH_END.sub(".\n", text)
    return clean_text(_STRONG.sub(r"\2", text))


def _last_paragraph(sections: list[Section]) -> str | None:
    """The last paragraph that is not the first one under a header that announces something else."""
    for section in reversed(sections):
        paragraphs = _PARAGRAPH.split(section.text.strip("\n"))
        if section.name and not section.is_titled:
            paragraphs = paragraphs[1:]
        for paragraph in reversed(paragraphs):
            text = _clean(paragraph)
            if _num_words(text) >= _LAST_PARAGRAPH_WORDS:
                return text
    return None


def _num_words(text: str) -> int:
    return sum(any(c.isalpha() for c in word) for word in text.split())


def _has_words(text: str) -> bool:
    return any(c.isalpha() for c in text)
