"""The sentences a report is made of. Each knows which labels it states, so text and label row cannot disagree.

A template is text with choices: `(a|b|c)` takes one of them, nested as deep as one likes, `{name}` is filled in first.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from emixer.data.labels import Label
from emixer.data.phantom.findings import (
    Atelectasis,
    Device,
    Effusion,
    Findings,
    Fracture,
    Lesion,
    Opacity,
    PleuralChange,
    Pneumothorax,
    Side,
)

_CHOICE = re.compile(r"\(([^()]*)\)")


@dataclass(frozen=True)
class Sentence:
    """One sentence and what it says: 1 present, 0 absent, -1 uncertain."""

    text: str
    states: Mapping[Label, int] = field(default_factory=dict)


def expand(rng: np.random.Generator, template: str, **words: str) -> str:
    """Fills in `words`, takes one of each choice, tidies spaces and starts with a capital."""
    text = template.format(**words)
    while match := _CHOICE.search(text):
        options = match[1].split("|")
        text = text[: match.start()] + options[int(rng.integers(len(options)))] + text[match.end() :]
    text = re.sub(r"\s+", " ", text).replace(" ,", ",").replace(" .", ".").strip()
    text = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)
    return text[:1].upper() + text[1:]


def positive(rng: np.random.Generator, findings: Findings, label: Label) -> list[Sentence]:
    """What is drawn of one label, with side, place and size."""
    writer = _WRITERS[label]
    return [Sentence(text, {label: 1}) for text in writer(rng, findings)]


def without_history(sentence: Sentence) -> Sentence:
    """The sentence as it stands where no previous study shows what it tells of."""
    text = re.sub(r"^Again (?:seen|noted) (is|are)", r"There \1", sentence.text)
    text = text.replace("is again seen", "is present").replace("in unchanged position", "in place")
    return Sentence(text.replace("stable and unremarkable", "unremarkable"), sentence.states)


def hedged(rng: np.random.Generator, findings: Findings, label: Label) -> Sentence:
    """A finding that is barely there, or not at all, in doubtful words."""
    side = _side_of(findings, label) or ("left" if rng.random() < 0.5 else "right")
    template = _HEDGES[int(rng.integers(len(_HEDGES)))]
    noun = expand(rng, _HEDGED_NOUNS[label], side=side)
    article = "" if noun.split()[-1].lower() in ("atelectasis", "edema", "pneumonia", "thickening") else "a"
    noun = noun[:1].lower() + noun[1:]
    if article and noun[0] in "aeiou":
        article = "an"
    return Sentence(expand(rng, template, noun=noun, article=article), {label: -1})


def negative(rng: np.random.Generator, labels: frozenset[Label]) -> list[Sentence]:
    """Sentences that deny some of `labels`, as normal reports do; joined where radiologists join them."""
    sentences = []
    free = set(labels)
    for group, templates, chance in _NEGATIVES:
        if set(group) <= free and rng.random() < chance:
            free -= set(group)
            sentences.append(Sentence(expand(rng, templates), dict.fromkeys(group, 0)))
    return sentences


def normal_lungs(rng: np.random.Generator) -> Sentence:
    """Says that the lungs are clear, which denies no single label."""
    return Sentence(
        expand(rng, "(The lungs are (|well expanded and |well inflated and |fully expanded and )clear|(Both "
        "lungs|The lung fields) "
        "are (clear|well aerated)|Lungs are (clear|well expanded and clear)|The lungs (remain|appear) clear "
        "(|bilaterally)).")
    )  # fmt: skip


def background(rng: np.random.Generator) -> Sentence:
    """A remark that states no label."""
    return Sentence(expand(rng, _BACKGROUND[int(rng.integers(len(_BACKGROUND)))]))


def praises_bones(remark: Sentence) -> bool:
    """Whether a remark would contradict a fracture."""
    return _WHOLE_BONES.search(remark.text) is not None


def comparison(rng: np.random.Generator, label: Label, before: float, now: float) -> Sentence:
    """How a finding has changed since the patient's previous study; severities 0..1."""
    if before == 0:
        change = "(is|appears) new"
    elif now - before > 0.12:
        change = "has (increased|progressed|worsened)"
    elif before - now > 0.12:
        change = "has (decreased|improved)"
    else:
        change = "(is|remains|appears) (unchanged|stable|similar)"
    template = "The {noun} {change} (since|compared to|in comparison with) the (prior|previous) study."
    return Sentence(expand(rng, template, noun=_CHANGING_NOUNS[label], change=change), {label: 1})


def summary(rng: np.random.Generator, label: Label, findings: Findings) -> Sentence:
    """One label in an impression: short."""
    side = _side_of(findings, label)
    text = expand(rng, _SUMMARIES[label], side=f"{side}" if side else "", size=_size(rng, findings.severity(label)))
    return Sentence(text, {label: 1})


def all_clear(rng: np.random.Generator) -> Sentence:
    """The impression of a normal image."""
    return Sentence(
        expand(rng, "(No (acute|) (cardiopulmonary|intrathoracic) (process|abnormality|disease)|No (radiographic "
        "|)evidence of "
        "acute (cardiopulmonary|intrathoracic) (process|disease)|Normal (chest radiograph|chest "
        "x-ray|radiographs of the chest)"
        "|No acute findings).")
    )  # fmt: skip


def _size(rng: np.random.Generator, severity: float) -> str:
    bands = (
        (0.15, "(tiny|minimal|trace)"),
        (0.4, "(small|mild)"),
        (0.65, "(moderate|moderate-sized)"),
        (2.0, "(large|extensive)"),
    )
    return expand(rng, next(words for limit, words in bands if severity < limit)).lower()


def _degree(rng: np.random.Generator, severity: float) -> str:
    bands = ((0.3, "mild"), (0.65, "moderate"), (2.0, "severe"))
    return expand(rng, next(words for limit, words in bands if severity < limit)).lower()


def _zone(side: Side, down: float) -> str:
    place = "upper" if down < 0.36 else "mid" if down < 0.68 else "lower"
    if place == "mid":
        return f"{side} mid (lung|lung zone)"
    return f"{side} {place} (lobe|lung|lung zone)"


def _effusions(rng: np.random.Generator, findings: Findings) -> list[str]:
    items: tuple[Effusion, ...] = findings.effusions
    if len(items) == 2 and abs(items[0].severity - items[1].severity) < 0.25 and rng.random() < 0.8:
        size = _size(rng, max(i.severity for i in items))
        return [
            expand(rng, "(There are|Again seen are|Note is made of) {size} bilateral pleural effusions.", size=size)
        ]
    template = (
        "(There is|There is evidence of|Again noted is) (a|) {size} {side} pleural effusion(|, blunting the "
        "costophrenic angle"
        "|, tracking along the lateral chest wall)."
    )
    templates = (template, "A {size} {side} (pleural effusion|effusion) is (present|seen|noted|demonstrated).")
    texts = []
    for item in items:
        chosen = templates[int(rng.integers(2))].replace("(a|)", "a")
        texts.append(expand(rng, chosen, size=_size(rng, item.severity), side=item.side))
    return texts


def _pneumothorax(rng: np.random.Generator, findings: Findings) -> list[str]:
    item = findings.pneumothorax
    assert isinstance(item, Pneumothorax)
    size = _size(rng, item.severity).replace("mild", "small").replace("extensive", "large").replace("trace", "tiny")
    template = (
        "(There is|Again seen is) a {size} {side} (apical |)pneumothorax(|, measuring {cm} cm at the apex|, with "
        "the visceral "
        "pleural line {cm} cm from the apical chest wall)."
    )
    return [expand(rng, template, size=size, side=item.side, cm=f"{item.width_cm:.1f}")]


def _patches(kind: str) -> Callable[[np.random.Generator, Findings], list[str]]:
    words = {
        "consolidations": (
            "consolidations",
            "(dense |focal |confluent |airspace |)consolidation(| with air bronchograms)",
        ),
        "pneumonias": ("pneumonias", "(patchy |focal |multifocal |)pneumonia"),
        "opacities": ("opacities", "(hazy|patchy|ill-defined|vague|ground-glass) opacity"),
    }
    name, noun = words[kind]

    def write(rng: np.random.Generator, findings: Findings) -> list[str]:
        texts = []
        items: tuple[Opacity, ...] = getattr(findings, name)
        for item in items:
            place = _zone(item.side, item.down)
            degree = _degree(rng, item.severity)
            if kind == "pneumonias":
                template = (
                    "(Findings are consistent with|There is|The appearance is in keeping with) {noun} in the {place}"
                    "(|, {degree} in extent)."
                )
            else:
                template = (
                    "(There is {degree} {noun} in the {place}|{degree} {noun} is (present|seen|noted) in the {place}"
                    "|{noun} in the {place} is {degree}|In the {place} there is {degree} {noun})."
                )
            texts.append(expand(rng, template, noun=noun, place=place, degree=degree))
        return [t.replace("is mild hazy", "is a mild hazy") for t in texts]

    return write


def _lesions(rng: np.random.Generator, findings: Findings) -> list[str]:
    texts = []
    items: tuple[Lesion, ...] = findings.lesions
    for item in items:
        noun = "mass" if item.diameter_cm > 3 else "nodule"
        edge = "spiculated" if item.spiculated else "(well-defined|round|rounded|smooth)"
        template = (
            "(There is a|Again seen is a|Note is made of a) {cm} cm {edge} (|pulmonary ){noun} in the {place}"
            "(|, (concerning|suspicious) for malignancy|, for which CT is recommended)."
        )
        place = _zone(item.side, item.down)
        texts.append(expand(rng, template, cm=f"{item.diameter_cm:.1f}", edge=edge, noun=noun, place=place))
    return texts


def _atelectases(rng: np.random.Generator, findings: Findings) -> list[str]:
    items: tuple[Atelectasis, ...] = findings.atelectases
    sides = "bibasilar" if len(items) == 2 else f"{items[0].side} (basilar|basal|lower lobe)"
    degree = _degree(rng, max(i.severity for i in items))
    raised = max(items, key=lambda i: i.volume_loss_cm)
    tail = f"(|, with elevation of the {raised.side} hemidiaphragm)" if raised.volume_loss_cm > 1.0 else ""
    template = (
        "((There is|Again seen is) {degree} {sides} (|linear |plate-like |subsegmental |discoid "
        ")atelectasis{tail}|{degree} {sides} "
        "(|linear |plate-like )atelectasis is (present|seen|noted){tail})."
    )
    return [expand(rng, template, degree=degree, sides=sides, tail=tail)]


def _edema(rng: np.random.Generator, findings: Findings) -> list[str]:
    severity = findings.edema.severity if findings.edema else 0.0
    template = (
        "((There is|Findings are consistent with|There are signs of) {degree} (pulmonary|interstitial) edema"
        "(|, with perihilar haze|, with (indistinct|engorged) vessels|, with upper zone redistribution|, with "
        "Kerley B lines)"
        "|{degree} pulmonary edema is (present|seen|again seen))."
    )
    return [expand(rng, template, degree=_degree(rng, severity))]


def _cardiomegaly(rng: np.random.Generator, findings: Findings) -> list[str]:
    degree = _degree(rng, (findings.heart_ratio - 0.525) / 0.12)
    template = (
        "((There is|Again seen is) {degree} cardiomegaly|The heart is {degree}ly enlarged|{degree} cardiomegaly is "
        "(present|noted|again seen)|The heart size is {degree}ly enlarged|{degree}ly enlarged (heart|cardiac "
        "silhouette))."
    )
    return [expand(rng, template, degree=degree)]


def _mediastinum(rng: np.random.Generator, findings: Findings) -> list[str]:
    severity = findings.wide_mediastinum.severity if findings.wide_mediastinum else 0.0
    template = (
        "((There is|Again seen is) {degree} widening of the (upper |superior |)mediastinum|The (superior |upper "
        "|)mediastinum is "
        "{degree}ly widened|{degree}ly (widened|prominent) (|upper |superior )mediastinum)."
    )
    return [expand(rng, template, degree=_degree(rng, severity))]


def _fracture(rng: np.random.Generator, findings: Findings) -> list[str]:
    item = findings.fracture
    assert isinstance(item, Fracture)
    first, last = _ordinal(item.rib), _ordinal(item.rib + item.count - 1)
    ribs = f"{first} rib" if item.count == 1 else f"{first} (through|to) {last} ribs"
    noun = "fracture" if item.count == 1 else "fractures"
    start = "(There is a|Again seen is a)" if item.count == 1 else "(There are|Again seen are|Note is made of)"
    where = "(|lateral )" if item.across > 0.7 else "(|posterior )"
    degree = _degree(rng, item.severity)
    template = "{start} {degree}ly displaced {noun} of the {side} {where}{ribs}."
    return [
        expand(rng, template, start=start, degree=degree, noun=noun, side=item.side, where=where, ribs=ribs)
    ]  # fmt: skip


def _ordinal(number: int) -> str:
    names = [
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
    ]
    return names[number - 1]


def _pleural_change(rng: np.random.Generator, findings: Findings) -> list[str]:
    item = findings.pleural_change
    assert isinstance(item, PleuralChange)
    templates = {
        "apical": "(There is|Again seen is) {degree} {side} apical pleural (thickening|scarring)(|, a pleural cap).",
        "lateral": "(There is|Again seen is) {degree} pleural thickening along the {side} (lateral |)chest wall.",
        "plaques": "(There are|Again seen are) {degree} calcified pleural plaques on the {side}(| side).",
    }
    return [expand(rng, templates[item.kind], degree=_degree(rng, item.severity), side=item.side)]


def _devices(rng: np.random.Generator, findings: Findings) -> list[str]:
    items: tuple[Device, ...] = findings.devices
    return [expand(rng, _DEVICE_TEMPLATES[item.kind], side=item.side, tip=item.tip) for item in items]


_DEVICE_TEMPLATES = {
    "endotracheal tube": "(The|A) (endotracheal|ET) tube (terminates|ends|tip is) (approximately |){tip}.",
    "central line": "(A|The) {side} (internal jugular|IJ) (central venous (catheter|line)|catheter) "
    "(terminates|ends) in {tip}.",
    "picc": "(A|The) {side} PICC (line |)(terminates|ends) in {tip}.",
    "port": "(A|The) {side} (chest |)port-a-cath (terminates|ends) in {tip}.",
    "pacemaker": "(A|The) {side}-sided pacemaker (is (present|in place)|is again seen) with (lead|leads) "
    "(ending|terminating) in {tip}.",
    "nasogastric tube": "(The|A) (nasogastric|enteric|orogastric) tube (courses below the diaphragm|ends in "
    "{tip}|tip is in {tip}).",
    "chest tube": "(A|The) {side} (chest|pleural) (tube|drain) is (in place|present|in unchanged position).",
    "sternal wires": "(Median sternotomy|Sternal) wires are (intact|noted|present|in place).",
    "valve": "A prosthetic (cardiac |aortic |)valve is (noted|present|in place).",
    "ecg leads": "(ECG|EKG|Monitoring) leads overlie the chest.",
}

_WRITERS: dict[Label, Callable[[np.random.Generator, Findings], list[str]]] = {
    Label.ATELECTASIS: _atelectases,
    Label.CARDIOMEGALY: _cardiomegaly,
    Label.CONSOLIDATION: _patches("consolidations"),
    Label.EDEMA: _edema,
    Label.ENLARGED_CARDIOMEDIASTINUM: _mediastinum,
    Label.FRACTURE: _fracture,
    Label.LUNG_LESION: _lesions,
    Label.LUNG_OPACITY: _patches("opacities"),
    Label.PLEURAL_EFFUSION: _effusions,
    Label.PLEURAL_OTHER: _pleural_change,
    Label.PNEUMONIA: _patches("pneumonias"),
    Label.PNEUMOTHORAX: _pneumothorax,
    Label.SUPPORT_DEVICES: _devices,
}

HEDGEABLE: dict[Label, float] = {
    Label.ATELECTASIS: 0.045,
    Label.CARDIOMEGALY: 0.025,
    Label.CONSOLIDATION: 0.019,
    Label.EDEMA: 0.035,
    Label.ENLARGED_CARDIOMEDIASTINUM: 0.02,
    Label.LUNG_LESION: 0.008,
    Label.PLEURAL_EFFUSION: 0.025,
    Label.PLEURAL_OTHER: 0.004,
    Label.PNEUMONIA: 0.06,
    Label.PNEUMOTHORAX: 0.005,
}
"""Share of studies in whose report the label is uncertain."""

_HEDGES = (
    "{article} {noun} cannot be (excluded|ruled out).",
    "Possible {noun}.",
    "Findings may (represent|reflect) {noun}.",
    "{article} {noun} is possible.",
    "Appearances are suspicious for {noun}.",
    "There may be {article} {noun}.",
    "Probable {noun}.",
)
_HEDGED_NOUNS = {
    Label.ATELECTASIS: "(minimal|mild|minor) {side} (basilar|basal) atelectasis",
    Label.CARDIOMEGALY: "borderline cardiomegaly",
    Label.CONSOLIDATION: "(early|developing|subtle) {side} (lower lobe|basilar) consolidation",
    Label.EDEMA: "(mild|minimal|early|slight) (pulmonary|interstitial) edema",
    Label.ENLARGED_CARDIOMEDIASTINUM: "(mild|slight) widening of the mediastinum",
    Label.LUNG_LESION: "(small|subtle|tiny) {side} (|pulmonary )nodule",
    Label.PLEURAL_EFFUSION: "(small|trace|tiny) {side} pleural effusion",
    Label.PLEURAL_OTHER: "(mild|minimal) {side} pleural thickening",
    Label.PNEUMONIA: "(early|developing|superimposed|mild) {side} (|lower lobe |basilar )pneumonia",
    Label.PNEUMOTHORAX: "(tiny|small|subtle) {side} (|apical )pneumothorax",
}

_NEGATIVES: tuple[tuple[tuple[Label, ...], str, float], ...] = (
    (
        (Label.CONSOLIDATION, Label.PLEURAL_EFFUSION, Label.PNEUMOTHORAX),
        "(There is no {core}|No {core}(| is (seen|identified|present))).".replace(
            "{core}", "(focal |)consolidation, (pleural |)effusion(|,) or pneumothorax"
        ),
        0.45,
    ),
    (
        (Label.PLEURAL_EFFUSION, Label.PNEUMOTHORAX),
        "(There is no (pleural |)effusion or pneumothorax|No (pleural effusion|effusion) or pneumothorax(| is "
        "(seen|identified))|No pneumothorax or (large |)pleural "
        "effusion(| is (seen|present))|There is neither pneumothorax nor pleural effusion).",
        0.75,
    ),
    ((Label.PNEUMOTHORAX,), "((There is no|No) pneumothorax|No pneumothorax is (seen|identified|appreciated)).", 0.7),
    (
        (Label.PLEURAL_EFFUSION,),
        "((There is no|No) (|large |appreciable )pleural effusion|No effusion is (seen|present)).",
        0.5,
    ),
    (
        (Label.CARDIOMEGALY, Label.ENLARGED_CARDIOMEDIASTINUM),
        "((The cardiomediastinal|The cardiac and mediastinal|Cardiomediastinal) silhouette is "
        "(normal|unremarkable|within normal "
        "limits|stable and unremarkable)|The heart size and mediastinal (contours|silhouette) are "
        "(normal|unremarkable)|Heart and "
        "mediastinum are (normal|within normal limits)).",
        0.60,
    ),
    (
        (Label.CARDIOMEGALY,),
        "(The heart (size|) is (normal|normal in size|not enlarged)|Heart size is (normal|within normal "
        "limits)|No cardiomegaly).",
        0.45,
    ),
    (
        (Label.ENLARGED_CARDIOMEDIASTINUM,),
        "(The mediastinal (contours are|contour is|silhouette is) (normal|unremarkable)|Mediastinal contours are "
        "(normal|within "
        "normal limits)|The mediastinum is not widened).",
        0.25,
    ),
    (
        (Label.PNEUMONIA, Label.EDEMA),
        "((There is no|No) evidence of (pneumonia or (pulmonary |)edema|edema or pneumonia)).",
        0.15,
    ),
    (
        (Label.CONSOLIDATION,),
        "(There is no (focal |lobar |)consolidation|No (focal |lobar |)consolidation(| is (seen|identified))).",
        0.35,
    ),
    ((Label.PNEUMONIA,), "((There is no|No) (evidence of |convincing evidence of |)pneumonia).", 0.25),
    (
        (Label.EDEMA,),
        "((There is no|No) (overt |frank |)(pulmonary edema|pulmonary vascular congestion or edema)).",
        0.30,
    ),
    ((Label.FRACTURE,), "(No (acute |displaced |)(rib |)fracture is (seen|identified)|No displaced fractures).", 0.08),
    ((Label.LUNG_LESION,), "No (suspicious |pulmonary |)(nodule|nodules) or (mass|masses)(| is seen).", 0.04),
)

_BACKGROUND = (
    "The (trachea|airway) is midline.",
    "(The visualized|Visualized) (osseous|bony) structures are (unremarkable|intact|within normal limits).",
    "(The hila|Hilar contours) are (normal|unremarkable).",
    "Imaged upper abdomen is unremarkable.",
    "There is no free air (under|below) the (diaphragm|right hemidiaphragm).",
    "The aorta is (tortuous|mildly tortuous|unremarkable).",
    "(Mild degenerative|Degenerative) changes are (seen|noted) in the (thoracic |)spine.",
    "The (soft tissues|bones) are unremarkable.",
    "Lung volumes are (normal|adequate).",
)
_WHOLE_BONES = re.compile(r"(osseous|bony) structures|bones")

_CHANGING_NOUNS = {
    Label.PLEURAL_EFFUSION: "pleural effusion",
    Label.PNEUMOTHORAX: "pneumothorax",
    Label.EDEMA: "pulmonary edema",
    Label.CARDIOMEGALY: "cardiomegaly",
    Label.CONSOLIDATION: "consolidation",
    Label.LUNG_OPACITY: "opacity",
    Label.ATELECTASIS: "atelectasis",
    Label.PNEUMONIA: "pneumonia",
}

_SUMMARIES = {
    Label.ATELECTASIS: "({side} (basilar |)atelectasis|Atelectasis as (above|described)).",
    Label.CARDIOMEGALY: "(Cardiomegaly|Enlarged heart).",
    Label.CONSOLIDATION: "{side} (lung |)consolidation.",
    Label.EDEMA: "(Pulmonary edema|Findings of pulmonary edema).",
    Label.ENLARGED_CARDIOMEDIASTINUM: "(Widening of the mediastinum|Widened mediastinum).",
    Label.FRACTURE: "{side} rib (fracture|fractures as above).",
    Label.LUNG_LESION: "({side} |)(lung|pulmonary) (nodule or mass|lesion)(|, CT recommended).",
    Label.LUNG_OPACITY: "({side} (lung |)opacity|Opacity as described above).",
    Label.PLEURAL_EFFUSION: "{size} {side} pleural effusion.",
    Label.PLEURAL_OTHER: "{side} pleural (thickening or plaques|changes with thickening).",
    Label.PNEUMONIA: "{side} pneumonia.",
    Label.PNEUMOTHORAX: "{size} {side} pneumothorax.",
    Label.SUPPORT_DEVICES: "(Lines and tubes as (above|described)|Support devices as described above).",
}


def _side_of(findings: Findings, label: Label) -> str:
    """`left`, `right` or `bilateral`; empty where the finding has no side."""
    sources: dict[Label, object] = {
        Label.ATELECTASIS: findings.atelectases,
        Label.CONSOLIDATION: findings.consolidations,
        Label.FRACTURE: findings.fracture,
        Label.LUNG_LESION: findings.lesions,
        Label.LUNG_OPACITY: findings.opacities,
        Label.PLEURAL_EFFUSION: findings.effusions,
        Label.PLEURAL_OTHER: findings.pleural_change,
        Label.PNEUMONIA: findings.pneumonias,
        Label.PNEUMOTHORAX: findings.pneumothorax,
    }
    found = sources.get(label)
    items = found if isinstance(found, tuple) else (found,) if found else ()
    sides = sorted({str(item.side) for item in items})
    return "bilateral" if len(sides) == 2 else (sides[0] if sides else "")
