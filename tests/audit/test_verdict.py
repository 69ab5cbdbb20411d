"""Which figures fail a dataset: those whose whole interval lies beyond the limit."""

from collections.abc import Mapping
from typing import Any

from emixer.audit.verdict import MAX_DISCLOSED, MAX_MEMBERSHIP_AUC, MAX_NEARER, checks, verdict

LEVEL = 0.01


def share(low: float) -> dict[str, Any]:
    """A share whose interval begins there."""
    return {"share": low + 0.01, "interval": [low, low + 0.02]}


def failed(**changed: Any) -> set[str]:
    """Names of the checks that fail if these figures, the others being innocent, lie where they are said to."""
    space = {"nearer_to_train": share(MAX_NEARER)}
    images: dict[str, Any] = {"copies": 0, "flagged": share(2 * LEVEL), "pixels": space, "features": space}
    control = {"share": LEVEL, "interval": [0.004, 0.03]}
    reports: Mapping[str, Any] = {"copies": 0, "flagged": share(0.03), "control": control}
    innocent = {"auc": 0.6, "interval": [MAX_MEMBERSHIP_AUC, 0.65]}
    membership: dict[str, Any] = {"pixels": innocent, "features": innocent}
    told = {"disclosed": 0.1, "interval": [MAX_DISCLOSED, 0.15]}
    attributes = {"sex": {"pixels": told, "features": told}, "age": {"not_measured": "no column"}}
    held_out = {"share": 0.02, "interval": [0.01, 0.05]}
    traces = {
        "dates": {"generated": share(0.05), "held_out": held_out},
        "names": {"generated": share(0.9), "held_out": None},
        "masks": {"generated": share(0.9), "held_out": held_out},
    }
    given = {"images": images, "reports": reports, "traces": traces, "membership": membership, "attributes": attributes}
    given = {name: value | changed.get(name, {}) for name, value in given.items()}
    found = checks(level=LEVEL, **given)
    assert verdict(found) == ("pass" if all(check.passed for check in found) else "fail")
    return {check.name for check in found if not check.passed}


def test_a_figure_fails_once_its_whole_interval_is_beyond_the_limit() -> None:
    assert failed() == set(), "each interval begins at the limit itself"
    above = 1e-6
    beyond = {"auc": 0.7, "interval": [MAX_MEMBERSHIP_AUC + above, 0.8]}
    told = {"disclosed": 0.2, "interval": [MAX_DISCLOSED + above, 0.3]}
    dates = {"generated": share(0.05 + above), "held_out": {"share": 0.02, "interval": [0.01, 0.05]}}
    for changed, names in (
        ({"images": {"flagged": share(2 * LEVEL + above)}}, {"near_images"}),
        ({"images": {"features": {"nearer_to_train": share(MAX_NEARER + above)}}}, {"nearer_to_train_features"}),
        ({"membership": {"pixels": beyond}}, {"membership_pixels"}),
        ({"attributes": {"age": {"features": told}}}, {"attribute_age_features"}),
        ({"reports": {"flagged": share(0.03 + above)}}, {"near_reports"}),
        ({"traces": {"dates": dates}}, {"traces_dates"}),
    ):
        assert failed(**changed) == names


def test_a_single_copy_fails() -> None:
    assert failed(images={"copies": 1}) == {"image_copies"}
    assert failed(reports={"copies": 1}) == {"report_copies"}


def test_masks_and_what_has_no_control_are_not_checked() -> None:
    found = checks(
        {"copies": 0, "flagged": share(0), "pixels": {}, "features": {}}, None,
        {kind: {"generated": share(0.9), "held_out": of} for kind, of in (("masks", share(0)), ("dates", None))},
        {space: {"auc": 0.5, "interval": [0.4, 0.6]} for space in ("pixels", "features")}, LEVEL,
        {"age": {"not_measured": "no column"}},
    )  # fmt: skip
    assert {check.name for check in found} == {
        "image_copies", "near_images", "membership_pixels", "membership_features",
    }  # fmt: skip
    assert verdict(found) == "pass"
