"""Tests of emixer.evaluation.report_mentions."""

import numpy as np
import pytest

from emixer.data.labels import CHEXPERT, NIH14
from emixer.data.text import tokenize
from emixer.errors import ConfigError
from emixer.evaluation.report_mentions import READABLE_LABELS, Mention, mentions, reads_language, score_mentions

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
    ("Superimposed infection is not excluded.", "Pneumonia", UNCERTAIN),
    ("Superimposed pneumonia has not been excluded.", "Pneumonia", UNCERTAIN),
    ("A small pneumothorax is not entirely excluded.", "Pneumothorax", UNCERTAIN),
    ("Pneumonia can't be ruled out.", "Pneumonia", UNCERTAIN),
    ("Effusion could not be definitively excluded.", "Pleural Effusion", UNCERTAIN),
    ("Early edema is difficult to exclude.", "Edema", UNCERTAIN),
    ("Rule out pneumonia.", "Pneumonia", UNCERTAIN),
    ("CT is advised to rule out a nodule.", "Lung Lesion", UNCERTAIN),
    ("Chest film to exclude pneumothorax.", "Pneumothorax", UNCERTAIN),
    ("Please r/o effusion.", "Pleural Effusion", UNCERTAIN),
    ("It is not possible to rule out a small pneumothorax.", "Pneumothorax", UNCERTAIN),
    ("We are unable to exclude a small effusion.", "Pleural Effusion", UNCERTAIN),
    ("This does not exclude pneumonia.", "Pneumonia", UNCERTAIN),
    ("One cannot entirely exclude edema.", "Edema", UNCERTAIN),
    ("Pneumothorax has been ruled out.", "Pneumothorax", NEGATED),
    ("Pneumonia is excluded.", "Pneumonia", NEGATED),
    ("The lateral film rules out pneumothorax.", "Pneumothorax", NEGATED),
    ("Pneumonia should be considered.", "Pneumonia", UNCERTAIN),
    ("Pneumonia remains a possibility.", "Pneumonia", UNCERTAIN),
    ("The endotracheal tube has been removed.", "Support Devices", NEGATED),
    ("Interval removal of the right chest tube.", "Support Devices", NEGATED),
    ("Right chest tube removal since the prior study.", "Support Devices", NEGATED),
    ("The PICC and the nasogastric tube were removed.", "Support Devices", NEGATED),
    ("The chest tube has been removed.", "Support Devices", NEGATED),
    ("Removed: chest tube.", "Support Devices", NEGATED),
    ("Discontinued: PICC.", "Support Devices", NEGATED),
    ("Not yet removed: chest tube.", "Support Devices", PRESENT),
    ("Removed: chest tube. New: PICC.", "Support Devices", PRESENT),
    ("Absent: pleural effusion.", "Pleural Effusion", NEGATED),
    ("? pneumonia.", "Pneumonia", UNCERTAIN),
    ("Left basilar opacity ? pneumonia.", "Pneumonia", UNCERTAIN),
    ("Left basilar opacity ? pneumonia.", "Lung Opacity", PRESENT),
    ("Opacity (?pneumonia) at the left base.", "Pneumonia", UNCERTAIN),
    ("Small apical pneumothorax?", "Pneumothorax", UNCERTAIN),
    ("Pneumothorax? No pneumothorax. Small effusion.", "Pleural Effusion", PRESENT),
    ("Not excluded is a small pneumothorax.", "Pneumothorax", UNCERTAIN),
    ("Cannot be ruled out is pneumonia.", "Pneumonia", UNCERTAIN),
    ("Excluded is a fracture.", "Fracture", NEGATED),
    ("The effusion is unchanged and the heart is enlarged.", "Cardiomegaly", PRESENT),
    ("The pacemaker was explanted.", "Support Devices", NEGATED),
    ("The endotracheal tube has not been removed.", "Support Devices", PRESENT),
    ("The endotracheal tube has been removed, but a PICC remains.", "Support Devices", PRESENT),
    ("The nasogastric tube should be removed.", "Support Devices", PRESENT),
    ("The catheter has been pulled back by 2 cm.", "Support Devices", PRESENT),
    ("Small pneumothorax after the chest tube has been removed.", "Pneumothorax", PRESENT),
    ("Small pneumothorax after the chest tube has been removed.", "Support Devices", NEGATED),
    ("Removal of the chest tube with a small residual pneumothorax.", "Pneumothorax", PRESENT),
    (
        "No pleural effusions are identified, although a trace amount of fluid may be present.",
        "Pleural Effusion",
        UNCERTAIN,
    ),
    ("No pneumothorax is seen, although a small one may be present.", "Pneumothorax", UNCERTAIN),
    ("No pneumothorax, but a tiny one cannot be excluded.", "Pneumothorax", UNCERTAIN),
    ("Pneumothorax is not seen, though it could be missed on this film.", "Pneumothorax", UNCERTAIN),
    ("No consolidation, although the lung volumes are low.", "Consolidation", NEGATED),
    ("No consolidation, although a small effusion may be present.", "Consolidation", NEGATED),
    ("No consolidation, although a small effusion may be present.", "Pleural Effusion", UNCERTAIN),
    ("No effusion, but mild edema.", "Edema", PRESENT),
    ("Bibasilar opacities likely represent atelectasis.", "Atelectasis", UNCERTAIN),
    ("Bibasilar opacities likely represent atelectasis.", "Lung Opacity", PRESENT),
    ("Bibasilar opacities, most likely atelectasis.", "Atelectasis", UNCERTAIN),
    ("Left basilar opacity is favored to represent pneumonia.", "Pneumonia", UNCERTAIN),
    ("Opacities are thought to reflect edema.", "Edema", UNCERTAIN),
    ("Opacity probably representing atelectasis.", "Atelectasis", UNCERTAIN),
    ("Pneumonia is likely.", "Pneumonia", UNCERTAIN),
    ("Pneumonia is less likely.", "Pneumonia", UNCERTAIN),
    ("Pneumonia is unlikely.", "Pneumonia", NEGATED),
    ("No pneumothorax, likely small left effusion.", "Pleural Effusion", UNCERTAIN),
    ("No pneumothorax, likely small left effusion.", "Pneumothorax", NEGATED),
    ("Likely chronic left effusion.", "Pleural Effusion", PRESENT),
    ("Left effusion, likely due to heart failure.", "Pleural Effusion", PRESENT),
    ("Left effusion, likely due to heart failure.", "Edema", UNCERTAIN),
    ("Likely not pneumonia.", "Pneumonia", NEGATED),
    ("Effusions: none. Pneumothorax: none.", "Pneumothorax", NEGATED),
    ("Effusions: none. Pneumothorax: none.", "Pleural Effusion", NEGATED),
    ("Effusions: none; pneumothorax: small.", "Pneumothorax", PRESENT),
    ("Effusion: small, pneumothorax: none.", "Pleural Effusion", PRESENT),
    ("Effusion: small, pneumothorax: none.", "Pneumothorax", NEGATED),
    ("Consolidation/effusion: none.", "Consolidation", NEGATED),
    ("Effusion(s): no.", "Pleural Effusion", NEGATED),
    ("Consolidation - absent.", "Consolidation", NEGATED),
    ("Pneumothorax: not seen.", "Pneumothorax", NEGATED),
    ("Pleural effusion: Moderate on the left.", "Pleural Effusion", PRESENT),
    ("Effusion: No pneumothorax.", "Pneumothorax", NEGATED),
    ("Increased density over the right lung base which was not present before.", "Lung Opacity", PRESENT),
    ("A nodule that was not seen on the prior study.", "Lung Lesion", PRESENT),
    ("Left effusion, not previously present.", "Pleural Effusion", PRESENT),
    ("Left effusion was not clearly visualized previously.", "Pleural Effusion", PRESENT),
    ("The effusion was absent on the prior film.", "Pleural Effusion", PRESENT),
    ("The effusion which was present before is no longer seen.", "Pleural Effusion", NEGATED),
    ("The effusion is not present.", "Pleural Effusion", NEGATED),
    ("The pneumothorax has not changed.", "Pneumothorax", PRESENT),
    ("The pneumothorax has not resolved.", "Pneumothorax", PRESENT),
    ("The effusion has not significantly increased.", "Pleural Effusion", PRESENT),
    ("The nodule is not new.", "Lung Lesion", PRESENT),
    ("History of pneumonia. Lungs clear.", "Pneumonia", UNMENTIONED),
    ("Patient with a history of heart failure.", "Edema", UNMENTIONED),
    ("Hx of pneumothorax.", "Pneumothorax", UNMENTIONED),
    ("Clinical history: pneumonia.", "Pneumonia", UNMENTIONED),
    ("History of pneumonia, now with an effusion.", "Pleural Effusion", PRESENT),
    ("History of pneumonia. Pneumonia in the left lower lobe.", "Pneumonia", PRESENT),
    ("History of lung cancer with a nodule in the right lung.", "Lung Lesion", PRESENT),
    ("Opacities consistent with the patient's history of known fibrosis.", "Fibrosis", PRESENT),
    ("Elevated diaphragm after a history of lobectomy, without effusion or pneumothorax.", "Pneumothorax", NEGATED),
    ("No history of pneumonia.", "Pneumonia", UNMENTIONED),
    ("No consolidation, suspicious opacity, or pneumothorax.", "Pneumothorax", NEGATED),
    ("Infection is not entirely ruled out.", "Pneumonia", UNCERTAIN),
    ("An underlying pneumonia cannot be entirely excluded on this single view.", "Pneumonia", UNCERTAIN),
    ("Underlying infection is difficult to entirely exclude.", "Pneumonia", UNCERTAIN),
    ("Evaluate for pneumothorax.", "Pneumothorax", UNCERTAIN),
    ("Assess for pneumonia.", "Pneumonia", UNCERTAIN),
    ("Nothing to suggest pneumonia.", "Pneumonia", NEGATED),
    ("There is nothing to suggest heart failure.", "Edema", NEGATED),
    ("The left PICC has been discontinued.", "Support Devices", NEGATED),
    ("The nasogastric tube is no longer present.", "Support Devices", NEGATED),
    ("Endotracheal tube no longer seen.", "Support Devices", NEGATED),
    ("Patient is status post removal of the pacemaker.", "Support Devices", NEGATED),
    ("Swan-Ganz catheter has been removed, and a right jugular catheter has been placed.", "Support Devices", PRESENT),
    ("The right chest tube has been removed and there is no pneumothorax.", "Support Devices", NEGATED),
    ("The endotracheal tube has been replaced.", "Support Devices", PRESENT),
    (
        "No effusion is visible, although small effusions might be hidden behind the heart.",
        "Pleural Effusion",
        UNCERTAIN,
    ),
    ("No obvious pneumothorax, although evaluation is limited by supine position.", "Pneumothorax", NEGATED),
    ("No definite effusion, although a small amount of fluid cannot be excluded.", "Pleural Effusion", UNCERTAIN),
    ("No consolidation is seen; however, an early one could be missed.", "Consolidation", UNCERTAIN),
    ("Retrocardiac opacity is likely atelectasis.", "Atelectasis", UNCERTAIN),
    ("Retrocardiac opacity, likely due to atelectasis.", "Atelectasis", UNCERTAIN),
    ("Findings most likely reflect pulmonary edema.", "Edema", UNCERTAIN),
    ("Findings likely representing a combination of atelectasis and effusion.", "Pleural Effusion", UNCERTAIN),
    ("There is likely a small left effusion.", "Pleural Effusion", UNCERTAIN),
    ("Opacities which may reflect infection.", "Pneumonia", UNCERTAIN),
    ("Probable pneumonia in the left base.", "Pneumonia", UNCERTAIN),
    ("Appearance suspicious for edema.", "Edema", UNCERTAIN),
    ("Pneumothorax: no. Effusion: small.", "Pneumothorax", NEGATED),
    ("Pneumothorax: no. Effusion: small.", "Pleural Effusion", PRESENT),
    ("Pneumothorax: None seen.", "Pneumothorax", NEGATED),
    ("Pleural effusions: None significant.", "Pleural Effusion", NEGATED),
    ("Pneumothorax none.", "Pneumothorax", NEGATED),
    ("PLEURA: No effusion or pneumothorax.", "Pneumothorax", NEGATED),
    ("Consolidation: negative.", "Consolidation", NEGATED),
    ("Fractures: none. Lines and tubes: right PICC.", "Support Devices", PRESENT),
    ("New opacity in the left lower lobe, not seen previously.", "Lung Opacity", PRESENT),
    ("Opacity not present on the study of yesterday.", "Lung Opacity", PRESENT),
    ("A left effusion has developed that was not there before.", "Pleural Effusion", PRESENT),
    ("Opacities not previously seen.", "Lung Opacity", PRESENT),
    ("The previously seen pneumothorax is no longer visualized.", "Pneumothorax", NEGATED),
    ("The pneumothorax seen previously has resolved.", "Pneumothorax", NEGATED),
    ("Prior history of pneumothorax.", "Pneumothorax", UNMENTIONED),
    ("Known history of COPD.", "Emphysema", UNMENTIONED),
    ("Patient has a past medical history of congestive heart failure.", "Edema", UNMENTIONED),
    ("History: pneumonia.", "Pneumonia", UNMENTIONED),
    ("H/o pneumonia.", "Pneumonia", UNMENTIONED),
    ("Cardiomegaly without edema.", "Edema", NEGATED),
    ("Cardiomegaly without edema.", "Cardiomegaly", PRESENT),
    ("No evidence for pneumothorax or pleural effusion on either side.", "Pleural Effusion", NEGATED),
    ("No increase in the effusion.", "Pleural Effusion", PRESENT),
    ("Effusion, if present, is small.", "Pleural Effusion", UNCERTAIN),
    ("Question of small effusion.", "Pleural Effusion", UNCERTAIN),
    ("Neither effusion nor pneumothorax is seen.", "Pneumothorax", NEGATED),
    ("Pneumonia is doubtful.", "Pneumonia", UNCERTAIN),
    ("The lungs are clear without consolidation, effusion, or edema.", "Edema", NEGATED),
    ("Pneumonia has been treated.", "Pneumonia", PRESENT),
]


@pytest.mark.parametrize(("sentence", "label", "expected"), SENTENCES)
def test_sentence_is_read_as_a_radiologist_means_it(sentence: str, label: str, expected: Mention) -> None:
    assert Mention(mentions([tokenize(sentence)], [label])[0, 0]) == expected


def test_present_overrides_uncertain_overrides_negated() -> None:
    report = "No effusion. Possible effusion. No pneumothorax. Possible edema. Pulmonary edema."
    found = mentions([tokenize(report)], ["Pleural Effusion", "Pneumothorax", "Edema"])
    assert found.tolist() == [[UNCERTAIN, NEGATED, PRESENT]]


def test_no_finding_means_a_non_empty_report_without_findings() -> None:
    reports = ["Heart size normal. No effusion.", "A picc line. Lungs are clear.", "Possible edema.", ""]
    found = mentions([tokenize(report) for report in reports], ["No Finding"])
    assert found[:, 0].tolist() == [PRESENT, PRESENT, NEGATED, UNMENTIONED]


def test_all_known_labels_are_readable_and_others_are_unmentioned() -> None:
    assert set(CHEXPERT) | set(NIH14) == READABLE_LABELS
    found = mentions([tokenize("COVID-19 pneumonia.")], ["COVID-19", "Pneumonia"])
    assert found.dtype == np.int8
    assert found.tolist() == [[UNMENTIONED, PRESENT]]


def test_scores_by_hand() -> None:
    found = np.array([[1, 1], [1, -1], [0, -2], [-2, 0]], np.int8)
    wanted = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    scores = score_mentions(found, wanted)
    # label 0: stated in rows 0 and 1, expected in rows 0 and 2; label 1 is expected nowhere
    assert (scores.precision_Y[0], scores.recall_Y[0], scores.f1_Y[0]) == (0.5, 0.5, 0.5)
    assert np.isnan([scores.precision_Y[1], scores.recall_Y[1], scores.f1_Y[1]]).all()


@pytest.mark.parametrize("language", ["es", "fr-CA", "eng", ""])
def test_reports_in_another_language_are_refused(language: str) -> None:
    with pytest.raises(ConfigError, match="English"):
        mentions([tokenize("Sin derrame pleural.")], ["Pleural Effusion"], language)
    assert not reads_language(language)


@pytest.mark.parametrize("language", ["en", "EN", "en-GB", "en_US"])
def test_every_variant_of_english_is_read(language: str) -> None:
    assert mentions([tokenize("No effusion.")], ["Pleural Effusion"], language).tolist() == [[NEGATED]]


def test_no_reports_give_an_empty_array() -> None:
    assert mentions([], CHEXPERT).shape == (0, 14)
