"""Patients, ids and splits."""

import re
from collections import Counter, defaultdict
from itertools import pairwise

from emixer.data.phantom.damage import Damage, damaged_studies
from emixer.data.phantom.subjects import dicom_id, identify


def test_no_patient_is_in_two_splits_and_ids_are_unique() -> None:
    studies = [identify(3, index, 0.1, 0.1) for index in range(1200)]
    splits = defaultdict(set)
    for study in studies:
        splits[study.subject_id].add(study.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len({study.study_id for study in studies}) == len(studies)
    patients = Counter(next(iter(found)) for found in splits.values())
    for split in ("validate", "test"):
        assert 0.06 < patients[split] / len(splits) < 0.14


def test_ids_have_the_shape_of_the_published_ones() -> None:
    study = identify(0, 17, 0.1, 0.1)
    assert re.fullmatch(r"1\d{7}", study.subject_id)
    assert re.fullmatch(r"5\d{7}", study.study_id)
    assert study.folder == f"files/p{study.subject_id[:2]}/p{study.subject_id}"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", dicom_id(0, 17, 0))


def test_a_patient_comes_back_on_later_days() -> None:
    studies = [identify(0, index, 0.1, 0.1) for index in range(200)]
    pairs = [(a, b) for a, b in pairwise(studies) if a.subject_id == b.subject_id]
    assert len(pairs) > 50
    assert all(a.study_date < b.study_date and b.visit == a.visit + 1 for a, b in pairs)


def test_two_dozen_studies_already_fill_all_three_splits() -> None:
    for seed in range(8):
        assert {identify(seed, index, 0.1, 0.1).split for index in range(40)} == {"train", "validate", "test"}


def test_each_kind_of_damage_comes_in_turn_to_a_study_of_its_own() -> None:
    damages = list(damaged_studies(studies=20, broken_files=16))
    assert len({index for index, _ in damages}) == 16
    assert Counter(kind for _, kind in damages) == dict.fromkeys(Damage, 2)
    assert max(index for index, _ in damages) < 20
