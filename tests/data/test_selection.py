"""Which images stay, worked out by hand on small tables."""

from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa
import pytest

from emixer.data.sections import MissingFindings, Outcome
from emixer.data.selection import judge

FOUND = Outcome.FINDINGS.value


def judged(
    rows: list[tuple[str, str, str, str | None, str | None, str]],
    rule: MissingFindings = "drop",
    remarks: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """rows: dicom_id, study_id, split, pixels (None: undecodable), reason, outcome. remarks: by dicom_id."""
    images = pa.table({name: [row[i] for row in rows] for i, name in enumerate(("dicom_id", "study_id", "split"))})
    hashes = pa.array([None if row[3] is None else row[3].encode().ljust(16) for row in rows], pa.binary(16))
    decoded = pa.table(
        {
            "pixel_hash": hashes,
            "image_reason": pa.array([r[4] for r in rows], pa.string()),
            "image_remark": pa.array([remarks.get(r[0]) for r in rows], pa.string()),
            "outcome": [r[5] for r in rows],
        }
    )
    return judge(images, decoded, rule)


def test_of_identical_images_the_one_in_test_stays_then_validate_then_the_first_id() -> None:
    selection = judged(
        [
            ("d", "1", "train", "x", None, FOUND),
            ("c", "2", "test", "x", None, FOUND),
            ("b", "3", "validate", "x", None, FOUND),
            ("z", "4", "train", "y", None, FOUND),
            ("a", "5", "train", "y", None, FOUND),
            ("q", "6", "validate", "w", None, FOUND),
        ]
    )
    assert selection["keep"].to_pylist() == [False, True, False, False, True, True]
    assert selection["reason"].to_pylist() == [
        "same pixels as another image, which is in test", None, "same pixels as another image, which is in test",
        "same pixels as another image, which is in train", None, None,
    ]  # fmt: skip


def test_an_image_that_is_left_out_for_another_reason_does_not_displace_its_copy() -> None:
    selection = judged([("a", "1", "test", "x", None, Outcome.MISSING.value), ("b", "2", "train", "x", None, FOUND)])
    assert selection["keep"].to_pylist() == [False, True]
    assert selection["stage"].to_pylist() == ["report", None]


def test_images_that_could_not_be_decoded_are_not_taken_for_copies_of_each_other() -> None:
    selection = judged([(name, name, "train", None, "file is empty", FOUND) for name in "ab"])
    assert selection["stage"].to_pylist() == ["image", "image"]
    assert selection["reason"].to_pylist() == ["file is empty"] * 2


@pytest.mark.parametrize(("rule", "kept"), [("drop", False), ("keep-without-report", True)])
def test_an_image_without_a_usable_report_follows_the_rule_and_is_listed_either_way(
    rule: MissingFindings, kept: bool
) -> None:
    selection = judged([("a", "1", "train", "x", None, Outcome.NOT_UTF8.value)], rule)
    assert selection["keep"].to_pylist() == [kept]
    assert selection["stage"].to_pylist() == ["report"]
    assert selection["counts_report"].to_pylist() == [False]


def test_an_image_without_a_report_keeps_its_remark() -> None:
    rows = [(name, name, "train", name, None, Outcome.NOT_UTF8.value) for name in "ab"]
    selection = judged(rows, "keep-without-report", remarks={"a": "annotation is burnt in"})
    assert selection["reason"].to_pylist() == [
        f"{Outcome.NOT_UTF8.value}; image kept without it; annotation is burnt in",
        f"{Outcome.NOT_UTF8.value}; image kept without it",
    ]


def test_images_of_a_collection_without_reports_are_kept() -> None:
    selection = judged([("a", "1", "train", "x", None, Outcome.NOT_GIVEN.value)])
    assert selection["keep"].to_pylist() == [True]
    assert selection["counts_report"].to_pylist() == [False]


def test_a_train_study_counts_its_report_through_its_first_kept_image() -> None:
    selection = judged(
        [
            ("a", "1", "train", None, "file is empty", FOUND),
            ("b", "1", "train", "b", None, FOUND),
            ("c", "1", "train", "c", None, FOUND),
            ("d", "2", "test", "d", None, FOUND),
        ]
    )
    assert selection["counts_report"].to_pylist() == [False, True, False, False]


def test_an_image_with_a_remark_stays_and_is_listed() -> None:
    rows = [(i, i, "train", pixels, None, FOUND) for i, pixels in (("a", "x"), ("b", "y"), ("c", "y"))]
    selection = judged([*rows, ("d", "d", "train", "z", None, FOUND)], remarks={"a": "burnt in", "c": "burnt in"})
    assert selection["keep"].to_pylist() == [True, True, False, True]
    assert selection["stage"].to_pylist() == ["image", None, "duplicate", None]
    assert selection["reason"].to_pylist()[0] == "burnt in; image kept"
