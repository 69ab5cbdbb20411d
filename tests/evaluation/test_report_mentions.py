"""Tests of emixer.evaluation.report_mentions."""

import numpy as np
import pytest

from emixer.data.labels import CHEXPERT, NIH14
from emixer.data.text import tokenize
from emixer.evaluation.report_mentions import READABLE_LABELS, Mention, mentions, score_mentions

PRESENT, NEGATED, UNCERTAIN, UNMENTIONED = Mention.PRESENT, Mention.NEGATED, Mention.UNCERTAIN, Mention.UNMENTIONED

SENTENCES = [
    ("There is a moderate left pleural effusion.", "Pleural Effusion", PRESENT),
    ("No focal consolidation, large pleural effusion, or pneumothorax.", "Consolidation", NEGATED),
    ("No focal consolidation, large pleural effusion, or pneumothorax.", "Pleural Effusion", NEGATED),
    ("No focal consolidation, large pleural effusion, or pneumothorax.", "Pneumothorax", NEGATED),
    ("The lungs are free of edema.", "Edema", NEGATED),
    ("Pneumothorax is not seen.", "Pneumothorax", NEGATED),
    ("The left apical pneumothorax has resolved.", "Pneumothorax", NEGATED),
    ("No pneumothorax, but there is a small effusion.", "Pleural Effusion", PRESENT),
    ("Without pneumothorax, there is left basilar atelectasis.", "Atelectasis", PRESENT),
    ("No change in the right pneumothorax.", "Pneumothorax", PRESENT),
    ("The lungs do not demonstrate focal infiltrate or effusion.", "Pleural Effusion", NEGATED),
    ("No focal opacity to suggest pneumonia.", "Pneumonia", NEGATED),
    ("Opacity at the left base may represent pneumonia.", "Pneumonia", UNCERTAIN),
    ("Opacity at the left base may represent pneumonia.", "Lung Opacity", PRESENT),
    ("Probable small left effusion.", "Pleural Effusion", UNCERTAIN),
    ("Pneumonia cannot be excluded.", "Pneumonia", UNCERTAIN),
    ("Cannot exclude a small pneumothorax.", "Pneumothorax", UNCERTAIN),
    ("Bibasilar atelectasis versus consolidation.", "Consolidation", UNCERTAIN),
    ("The heart is mildly enlarged.", "Cardiomegaly", PRESENT),
    ("The cardiac silhouette is enlarged and effusion is not seen.", "Cardiomegaly", PRESENT),
    ("The cardiac silhouette is enlarged and effusion is not seen.", "Pleural Effusion", NEGATED),
    ("Severe cardiomegaly.", "Cardiomegaly", PRESENT),
    ("The heart is not enlarged.", "Cardiomegaly", NEGATED),
    ("The heart is normal in size.", "Cardiomegaly", NEGATED),
    ("Heart size within normal limits.", "Cardiomegaly", NEGATED),
    ("Heart size is at the upper limits of normal.", "Cardiomegaly", UNCERTAIN),
    ("The cardiomediastinal silhouette is normal.", "Enlarged Cardiomediastinum", NEGATED),
    ("The mediastinum is widened.", "Enlarged Cardiomediastinum", PRESENT),
    ("A right-sided PICC line terminates in the SVC.", "Support Devices", PRESENT),
    ("Left chest pacemaker with leads in place.", "Support Devices", PRESENT),
    ("Kerley B lines are present.", "Support Devices", UNMENTIONED),
    ("Healed fracture of the left sixth rib.", "Fracture", PRESENT),
    ("No acute fracture.", "Fracture", NEGATED),
    ("A 2 cm nodule in the right upper lobe.", "Lung Lesion", PRESENT),
    ("There is pleural thickening at the left base.", "Pleural Other", PRESENT),
    ("Bilateral airspace opacities.", "Lung Opacity", PRESENT),
    ("The patient is rotated.", "Edema", UNMENTIONED),
    ("Subcutaneous emphysema in the neck.", "Emphysema", UNMENTIONED),
    ("Emphysematous changes of the upper lobes.", "Emphysema", PRESENT),
    ("Small hiatal hernia.", "Hernia", PRESENT),
    ("Pleural thickening is noted.", "Pleural_Thickening", PRESENT),
    ("Pericardial effusion is not excluded.", "Effusion", UNMENTIONED),
]


@pytest.mark.parametrize(("sentence", "label", "expected"), SENTENCES)
def test_a_sentence_is_read_as_a_radiologist_means_it(sentence: str, label: str, expected: Mention) -> None:
    assert Mention(mentions([tokenize(sentence)], [label])[0, 0]) == expected


def test_over_a_report_present_wins_over_uncertain_and_uncertain_over_negated() -> None:
    report = "No effusion. Possible effusion. No pneumothorax. Possible edema. Pulmonary edema."
    found = mentions([tokenize(report)], ["Pleural Effusion", "Pneumothorax", "Edema"])
    assert found.tolist() == [[UNCERTAIN, NEGATED, PRESENT]]


def test_no_finding_means_that_the_report_speaks_and_finds_nothing() -> None:
    reports = ["Heart size normal. No effusion.", "A picc line. Lungs are clear.", "Possible edema.", ""]
    found = mentions([tokenize(report) for report in reports], ["No Finding"])
    assert found[:, 0].tolist() == [PRESENT, PRESENT, NEGATED, UNMENTIONED]


def test_all_labels_of_both_vocabularies_can_be_read_and_others_are_unmentioned() -> None:
    assert set(CHEXPERT) | set(NIH14) == READABLE_LABELS
    found = mentions([tokenize("COVID-19 pneumonia.")], ["COVID-19", "Pneumonia"])
    assert found.dtype == np.int8
    assert found.tolist() == [[UNMENTIONED, PRESENT]]


def test_scores_by_hand() -> None:
    found = np.array([[1, 1], [1, -1], [0, -2], [-2, 0]], np.int8)
    wanted = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    scores = score_mentions(found, wanted)
    # label 0: stated in rows 0 and 1, wanted in rows 0 and 2; label 1 is wanted nowhere
    assert (scores.precision_Y[0], scores.recall_Y[0], scores.f1_Y[0]) == (0.5, 0.5, 0.5)
    assert np.isnan([scores.precision_Y[1], scores.recall_Y[1], scores.f1_Y[1]]).all()


def test_no_reports_give_an_empty_array() -> None:
    assert mentions([], CHEXPERT).shape == (0, 14)
