"""What labels that are uncertain or not mentioned count as."""

from typing import Literal

import numpy as np
import pytest

from emixer.data.labels import CHEXPERT, NIH14, LabelPolicy

U, N = -1, None


def resolved(
    rows: list[dict[str, int | None]],
    uncertain: Literal["zeros", "ones", "ignore"],
    unmentioned: Literal["zeros", "ignore"],
    names: tuple[str, ...] = CHEXPERT,
) -> list[dict[str, int | None]]:
    """What each row says of each label: 1, 0, or None where it is not known. Absent from a row: not mentioned."""
    values = np.array([[row.get(name) or 0 for name in names] for row in rows], np.int8)
    mentioned = np.array([[row.get(name) is not None for name in names] for row in rows])
    values[~mentioned] = 7  # undefined: must not matter
    present, known = LabelPolicy(uncertain, unmentioned).resolve(values, mentioned, names)
    assert set(np.unique(present)) <= {0, 1}
    return [
        {name: int(present[i, y]) if known[i, y] else None for y, name in enumerate(names)} for i in range(len(rows))
    ]


@pytest.mark.parametrize(("uncertain", "expected"), [("zeros", 0), ("ones", 1), ("ignore", None)])
def test_an_uncertain_label_counts_as_the_policy_says(
    uncertain: Literal["zeros", "ones", "ignore"], expected: int | None
) -> None:
    (row,) = resolved([{"Edema": U, "Fracture": 1, "Pneumonia": 0}], uncertain, "zeros")
    assert (row["Edema"], row["Fracture"], row["Pneumonia"], row["Atelectasis"]) == (expected, 1, 0, 0)


def test_an_unmentioned_label_is_masked() -> None:
    (row,) = resolved([{"Edema": 1, "Pneumonia": 0}], "ignore", "ignore")
    assert row["Edema"] == 1
    assert row["Pneumonia"] == 0
    assert row["No Finding"] == 0, "a finding is present"
    others = set(CHEXPERT) - {"Edema", "Pneumonia", "No Finding"}
    assert all(row[name] is None for name in others)


def test_no_finding_says_that_findings_are_absent_but_nothing_of_devices() -> None:
    (row,) = resolved([{"No Finding": 1}], "ignore", "ignore")
    assert row["No Finding"] == 1
    assert row["Support Devices"] is None
    assert all(row[name] == 0 for name in CHEXPERT if name not in ("No Finding", "Support Devices"))


def test_what_is_mentioned_beside_no_finding_stays() -> None:
    (row,) = resolved([{"No Finding": 1, "Fracture": 1, "Edema": U}], "ignore", "ignore")
    assert (row["Fracture"], row["Edema"], row["Pneumonia"]) == (1, None, 0)
    (row,) = resolved([{"No Finding": U, "Fracture": 1}], "ignore", "ignore")
    assert row["No Finding"] is None, "it is mentioned as uncertain"


def test_a_device_or_an_uncertain_finding_does_not_deny_no_finding() -> None:
    rows = resolved([{"Support Devices": 1}, {"Edema": U}, {"Edema": 0}], "ignore", "ignore")
    assert [row["No Finding"] for row in rows] == [None, None, None]
    (row,) = resolved([{"Edema": U}], "ones", "ignore")
    assert row["No Finding"] == 0, "under U-Ones an uncertain finding is present"


def test_label_sets_without_no_finding_have_no_such_rule() -> None:
    (row,) = resolved([{"Mass": 1}], "ignore", "ignore", NIH14)
    assert row == {name: 1 if name == "Mass" else None for name in NIH14}
