"""A study's report: sentences in sections, laid out as untidily as the real ones. No images are looked at here.

Source of the layout: MIMIC-CXR reports as published (section headers, `___` masks, wrapped lines with a leading space);
149,842 of 227,885 of them have a findings header.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emixer.data.labels import CHEXPERT, Label
from emixer.data.phantom.findings import Findings
from emixer.data.phantom.wording import (
    Sentence,
    all_clear,
    background,
    comparison,
    expand,
    hedged,
    negative,
    normal_lungs,
    positive,
    praises_bones,
    summary,
    without_history,
)

LAYOUTS: dict[str, float] = {
    "findings and impression": 0.58,
    "impression only": 0.30,
    "findings only": 0.05,
    "no header": 0.03,
    "joint header": 0.02,
    "repeated findings": 0.02,
}
"""How the sections of a report are headed, and how often."""

_ORDER = (
    Label.SUPPORT_DEVICES, Label.PNEUMONIA, Label.CONSOLIDATION, Label.LUNG_OPACITY, Label.LUNG_LESION, Label.EDEMA,
    Label.ATELECTASIS, Label.PLEURAL_EFFUSION, Label.PNEUMOTHORAX, Label.PLEURAL_OTHER, Label.CARDIOMEGALY,
    Label.ENLARGED_CARDIOMEDIASTINUM, Label.FRACTURE,
)  # fmt: skip
_LUNG_LABELS = frozenset(_ORDER[1:7])
_MAX_SENTENCES = 9


@dataclass(frozen=True)
class Report:
    """The text of the .txt file, and what it states of each label."""

    text: str
    states: Mapping[Label, int]
    """1, 0 or -1; labels that are not mentioned are missing."""
    layout: str
    findings: str
    """What stands in the section of that name, the last one if there are several; empty where there is none."""
    impression: str

    def row(self) -> tuple[int | None, ...]:
        """The 14 values in the order of CHEXPERT; None is blank."""
        return tuple(self.states.get(Label(name)) for name in CHEXPERT)


def write_report(
    rng: np.random.Generator, findings: Findings, uncertain: frozenset[Label], before: Findings | None, views: str
) -> Report:
    """The report of a study. uncertain: labels to be hedged, drawn or not; before: the patient's previous study."""
    body = _body(rng, findings, uncertain, before)
    body = body if before else [without_history(sentence) for sentence in body]
    end = _impression(rng, findings, body, uncertain)
    layout = str(rng.choice(list(LAYOUTS), p=list(LAYOUTS.values())))
    states: dict[Label, int] = {}
    for sentence in [*body, *end]:
        states.update(sentence.states)
    for label in list(states):
        if label in findings.present() and label not in uncertain:
            states[label] = 1
    if not any(states.get(label) in (1, -1) for label in _ORDER[1:]):
        states[Label.NO_FINDING] = 1
    summed_up = _join(end, numbered=rng.random() < 0.3)
    preamble = _preamble(rng, views, before is None)
    sections = _sections(rng, layout, _join(body), summed_up, views)
    text = _wrap(rng, [*preamble, *sections])
    return Report(text, states, layout, _last_of(sections, "FINDINGS"), _last_of(sections, "IMPRESSION"))


def _body(
    rng: np.random.Generator, findings: Findings, uncertain: frozenset[Label], before: Findings | None
) -> list[Sentence]:
    present = findings.present()
    stated = [label for label in _ORDER if label in present and label not in uncertain]
    known = before.present() if before else frozenset()
    sentences = [
        sentence if label in known else without_history(sentence)
        for label in stated
        for sentence in positive(rng, findings, label)
    ]
    sentences += [hedged(rng, findings, label) for label in _ORDER if label in uncertain]
    sentences += _changes(rng, stated, findings, before)
    if not _LUNG_LABELS & (present | uncertain) and rng.random() < 0.75:
        sentences.insert(0, normal_lungs(rng))
    absent = frozenset(Label) - present - uncertain - {Label.NO_FINDING, Label.SUPPORT_DEVICES}
    sentences += negative(rng, absent)[: max(1, _MAX_SENTENCES - len(sentences))]
    if len(sentences) < 3 or (len(sentences) < 6 and rng.random() < 0.35):
        remark = background(rng)
        if Label.FRACTURE not in present or not praises_bones(remark):
            sentences.append(remark)
    return sentences


def _changes(
    rng: np.random.Generator, stated: list[Label], findings: Findings, before: Findings | None
) -> list[Sentence]:
    if before is None or rng.random() < 0.5:
        return []
    changing = [
        label for label in stated
        if label in (Label.PLEURAL_EFFUSION, Label.PNEUMOTHORAX, Label.EDEMA, Label.CARDIOMEGALY, Label.CONSOLIDATION)
    ]  # fmt: skip
    if not changing:
        return []
    label = changing[int(rng.integers(len(changing)))]
    return [comparison(rng, label, before.severity(label), findings.severity(label))]


def _impression(
    rng: np.random.Generator, findings: Findings, body: list[Sentence], uncertain: frozenset[Label]
) -> list[Sentence]:
    stated = [label for label in _ORDER if findings.severity(label) > 0 or label in findings.present()]
    chosen = [label for label in stated if label not in uncertain and label is not Label.SUPPORT_DEVICES]
    sentences = [summary(rng, label, findings) for label in chosen[:4]]
    sentences += [sentence for sentence in body if -1 in sentence.states.values()][:2]
    return sentences or [all_clear(rng)]


def _join(sentences: list[Sentence], *, numbered: bool = False) -> str:
    if numbered and len(sentences) > 1:
        return "\n".join(f"{i}. {sentence.text}" for i, sentence in enumerate(sentences, start=1))
    return " ".join(sentence.text for sentence in sentences)


def _sections(rng: np.random.Generator, layout: str, body: str, end: str, views: str) -> list[tuple[str, str]]:
    """The text under its headers. An impression that stands alone carries the whole body."""
    upper = rng.random() < 0.93
    findings_header = "FINDINGS:" if upper else "Findings:"
    impression_header = "IMPRESSION:" if upper else "Impression:"
    if layout == "impression only":
        return [(impression_header, body)]
    if layout == "findings only":
        return [(findings_header, body)]
    if layout == "no header":
        return [("", body)]
    if layout == "joint header":
        return [("FINDINGS AND IMPRESSION:", body)]
    sections = [(findings_header, body), (impression_header, end)]
    if layout == "repeated findings":
        return [(findings_header, views + " of the chest provided."), *sections]
    return sections


def _last_of(sections: list[tuple[str, str]], name: str) -> str:
    """A section under both names is one of findings."""
    return next((text for header, text in reversed(sections) if header.upper().startswith(name)), "")


def _preamble(rng: np.random.Generator, views: str, first: bool) -> list[tuple[str, str]]:
    age = "___"
    sex = "(man|woman|year old man|year old woman|year-old female|year-old male|F|M)"
    reason = (
        f"{age} {sex} with (cough|shortness of breath|fever|chest pain|dyspnea|hypoxia|weakness|leukocytosis|sepsis"
        "|altered mental status|recent surgery|syncope|a fall)(|, (evaluate for|rule out|assess for|question) "
        "(acute process|pneumonia|pneumothorax|effusion|volume overload|interval change|line placement))"
        "(.| // ?(pna|acute process|interval change))"
    )
    sections = []
    if rng.random() < 0.65:
        sections.append(("EXAMINATION:", f"(CHEST|Chest radiograph|Chest) ({views}|{views.upper()})"))
    sections.append(
        ("(INDICATION:|INDICATION:|HISTORY:|REASON FOR EXAM:|CLINICAL INFORMATION:|CLINICAL HISTORY:)", reason)
    )
    if rng.random() < 0.6:
        sections.append(("TECHNIQUE:", f"(Chest, {views}|{views} of the chest|{views} views were obtained)."))
    if rng.random() < 0.85:
        earlier = "None(.|)" if first else "(___.|Chest radiograph ___.|Multiple priors, most recently ___.)"
        sections.append(("(COMPARISON:|COMPARISON:|COMPARISONS:)", earlier))
    return [(expand(rng, header), expand(rng, text)) for header, text in sections]


def _wrap(rng: np.random.Generator, sections: list[tuple[str, str]]) -> str:
    """Wrapped lines with a leading space, headers on the line or above the text, as dictation software leaves them."""
    width = int(rng.choice([68, 76, 80]))
    apart = rng.random() < 0.5
    lines = [" " * 33 + "FINAL REPORT"]
    for header, text in sections:
        first, *rest = text.split("\n")
        separate = apart and header[:4].upper() in ("FIND", "IMPR")
        start = f"{header}  {first}".strip() if not separate else first
        if separate:
            lines += [f" {header} ", " "]
        for paragraph in [start, *rest]:
            lines += [f" {line}" for line in textwrap.wrap(paragraph, width, break_on_hyphens=False)]
        lines.append(" ")
    if rng.random() < 0.04:  # a line broken where no line should be
        at = int(rng.integers(1, len(lines)))
        lines[at] = lines[at].replace(", ", ",\n ", 1)
    return "\n".join(lines).rstrip() + "\n"
