"""Reports against label rows, read back by a small parser that shares nothing with the grammar."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from emixer.data.labels import CHEXPERT, Label
from emixer.data.phantom.report import LAYOUTS
from emixer.data.phantom.sampling import PREVALENCE
from emixer.data.phantom.study import Settings, Study, make_study
from emixer.data.phantom.wording import HEDGEABLE

MENTIONS = {
    Label.ATELECTASIS: r"atelectasis",
    Label.CARDIOMEGALY: r"cardiomegaly|enlarged (heart|cardiac)|heart (size )?(is )?(\w+ )?(enlarged|normal|not|within)"
    r"|heart and mediastinum|(cardiomediastinal|cardiac and mediastinal) silhouette|heart size",
    Label.CONSOLIDATION: r"consolidation",
    Label.EDEMA: r"edema",
    Label.ENLARGED_CARDIOMEDIASTINUM: r"mediastin",
    Label.FRACTURE: r"fracture",
    Label.LUNG_LESION: r"nodule|mass\b|masses|lesion",
    Label.LUNG_OPACITY: r"opacity",
    Label.PLEURAL_EFFUSION: r"effusion",
    Label.PLEURAL_OTHER: r"thickening|scarring|plaque",
    Label.PNEUMONIA: r"pneumonia",
    Label.PNEUMOTHORAX: r"pneumothorax",
    Label.SUPPORT_DEVICES: r"tube|catheter|line (terminates|ends)|picc|port-a-cath|pacemaker|wires|valve|leads|drain"
    r"|devices",
}  # fmt: skip
NEGATION = r"\bno\b|neither|\bnot\b|normal|unremarkable|within normal"
DOUBT = r"cannot be|possible|\bmay\b|suspicious for (?!malignancy)|probable|probably"


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return [make_study(Settings(seed=11), index) for index in range(300)]


def test_a_study_is_the_same_in_every_process() -> None:
    """Python hashes strings anew in each process, and sets go round in the order of hashes."""
    text = (
        "from emixer.data.phantom.study import Settings, make_study\n"
        "print([(s.report, s.findings) for s in (make_study(Settings(seed=11), index) for index in range(300))])"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", text], env=os.environ | {"PYTHONHASHSEED": hashes}, capture_output=True, check=True
        ).stdout
        for hashes in ("1", "2")
    )
    assert first == second


def in_one_line(study: Study) -> str:
    return re.sub(r"\s+", " ", study.report.text)


def stated(text: str) -> dict[Label, int]:
    """Labels of the findings and impression of a report, by key words: 1 beats -1 beats 0."""
    headers = r"COMPARISONS?|TECHNIQUE|INDICATION|HISTORY|REASON FOR EXAM|CLINICAL \w+"
    body = re.split(rf"\n (?:{headers}):[^\n]*(?:\n \S[^\n]*)*\n", text)[-1]
    found: dict[Label, int] = {}
    flat = re.sub(r"\s+", " ", body).lower()
    for sentence in re.split(r"(?<=[a-z_])\. ?", flat):
        value = -1 if re.search(DOUBT, sentence) else 0 if re.search(NEGATION, sentence) else 1
        for label, pattern in MENTIONS.items():
            if re.search(pattern, sentence) and not (
                label is Label.LUNG_LESION and "malignancy" in sentence and value < 1
            ):
                found[label] = max(value, found.get(label, value), key=[0, -1, 1].index)
    return found


def test_the_label_row_says_what_the_report_says(studies: list[Study]) -> None:
    for study in studies:
        row = {label: v for label, v in study.report.states.items() if label is not Label.NO_FINDING}
        assert stated(study.report.text) == row, study.report.text


def test_what_is_drawn_is_stated_and_what_is_denied_is_not_drawn(studies: list[Study]) -> None:
    for study in studies:
        present = study.findings.present()
        for label, value in study.report.states.items():
            assert (value, label in present) != (0, True)
            assert (value, label in present) != (1, False) or label is Label.NO_FINDING
        missing = present - set(study.report.states) - {Label.NO_FINDING}
        assert not missing


def test_a_comparison_ends_before_the_next_sentence_begins(studies: list[Study]) -> None:
    compared = [
        said
        for study in studies
        for said in re.findall(r"(?:since|compared to|comparison with) the [^.]*", in_one_line(study))
    ]
    assert len(compared) > 10
    assert {said.split()[-1] for said in compared} == {"study"}, compared


def test_nothing_is_both_seen_again_and_new(studies: list[Study]) -> None:
    changes = Counter()
    for study in studies:
        text = in_one_line(study).lower()
        for noun, is_new in re.findall(
            r"the (pleural effusion|pneumothorax|pulmonary edema|cardiomegaly|consolidation)"
            r" (?:(?:is|appears) (new)|has|is|remains|appears)",
            text,
        ):
            seen_again = re.search(rf"(again (seen|noted)[^.]*{noun.split()[-1]}|{noun} is again)", text)
            assert not (is_new and seen_again), text
            changes[is_new or "known"] += 1
    assert min(changes["new"], changes["known"]) > 5


@pytest.mark.parametrize("index", [2779, 5114, 7801])  # those with a fracture whose remark is about bones
def test_bones_with_a_fracture_are_not_called_unremarkable(index: int) -> None:
    study = make_study(Settings(seed=0), index)
    assert study.report.states[Label.FRACTURE] == 1
    assert not re.search(r"(osseous|bony) structures|bones", in_one_line(study))


def test_no_finding_excludes_every_other_label_but_devices(studies: list[Study]) -> None:
    for study in studies:
        row = dict(zip(CHEXPERT, study.report.row(), strict=True))
        others = [row[label] for label in Label if label not in (Label.NO_FINDING, Label.SUPPORT_DEVICES)]
        assert (row[Label.NO_FINDING] == 1) == (not {1, -1} & set(others))
        assert row[Label.NO_FINDING] in (1, None)


def test_a_stated_side_is_the_side_that_is_drawn(studies: list[Study]) -> None:
    checked = 0
    for study in studies:
        effusions = study.findings.effusions
        if len(effusions) == 1 and study.report.states[Label.PLEURAL_EFFUSION] == 1:
            sentences = [s for s in re.sub(r"\s+", " ", study.report.text).split(". ") if "effusion" in s]
            named = set(re.findall(r"\b(left|right)\b(?=[^.]*effusion)", " ".join(sentences[:1])))
            assert named in ({str(effusions[0].side)}, set())
            checked += 1
    assert checked > 10


def test_prevalences_are_those_that_are_documented() -> None:
    present: Counter[Label] = Counter()
    layouts: Counter[str] = Counter()
    num = 1500
    for index in range(num):
        study = make_study(Settings(seed=5), index)
        present.update(study.findings.present())
        layouts[study.report.layout] += 1
    for label, certain in PREVALENCE.items():
        prevalence = certain + 0.6 * (1 - certain) * HEDGEABLE.get(label, 0.0)
        assert present[label] / num == pytest.approx(prevalence, abs=0.012 + 0.22 * prevalence), label
    assert 0.27 < present[Label.NO_FINDING] / num < 0.43
    without_header = (layouts["impression only"] + layouts["no header"]) / num
    assert without_header == pytest.approx(1 - 149_842 / 227_885, abs=0.05)
    assert set(layouts) == set(LAYOUTS)


def test_sentences_are_varied_and_the_vocabulary_is_small() -> None:
    studies = [make_study(Settings(seed=8), index) for index in range(800)]
    text = [re.sub(r"\s+", " ", s.report.text.split("IMPRESSION:")[-1]) for s in studies]
    sentences = {sentence for body in text for sentence in body.split(". ")}
    words = {word for body in text for word in re.findall(r"[a-z-]+", body.lower())}
    assert len(sentences) > 600
    assert 200 < len(words) < 600
