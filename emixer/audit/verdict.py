"""The checks that a dataset has to pass, and their results.

A check fails only if the whole 95 % interval of its figure lies beyond the limit, so that chance is not a finding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from emixer.audit.matching import SPACES
from emixer.audit.traces import IDENTIFYING

MAX_NEARER = 0.52
"""Limit of the share of images nearer to training images than to equally many held-out ones; 0.5 is chance."""
MAX_MEMBERSHIP_AUC = 0.55
"""Limit of the area under the ROC curve of an attacker with the dataset; 0.5 is guessing."""

MAX_DISCLOSED = 0.05
"""Limit of the additional share of right guesses for people that the model was trained on."""


@dataclass(frozen=True)
class Check:
    """One figure and its limit."""

    name: str
    """Identifier, for programs."""
    what: str
    """Description, for people."""
    value: float
    interval: tuple[float, float] | None
    limit: float
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """Content for audit.json."""
        return asdict(self) | {"interval": None if self.interval is None else list(self.interval)}


def checks(
    images: Mapping[str, Any], reports: Mapping[str, Any] | None, traces: Mapping[str, Any],
    membership: Mapping[str, Any], level: float, attributes: Mapping[str, Any],
) -> list[Check]:  # fmt: skip
    """All checks. reports: None if they are not compared with training reports. traces: by kind and side, None for
    held-out reports if there are none. level: share of the control that each measure would flag. attributes: figures by
    attribute and space, or `not_measured`."""
    found = [_none("image_copies", "images that copy a training image", images["copies"])]
    found.append(_share("near_images", "images nearer to a training image than held-out ones", images["flagged"],
                        2 * level))  # fmt: skip
    for space in SPACES:
        if "nearer_to_train" in images[space]:
            nearer = images[space]["nearer_to_train"]
            what = f"images nearer to training images than to as many held-out ones, by {space}"
            found.append(_figure(f"nearer_to_train_{space}", what, nearer["share"], nearer["interval"], MAX_NEARER))
        member = membership[space]
        what = f"telling training from held-out images by the dataset (AUC), by {space}"
        found.append(_figure(f"membership_{space}", what, member["auc"], member["interval"], MAX_MEMBERSHIP_AUC))
    for name, figures in attributes.items():
        for space, told in figures.items():
            if space != "not_measured":
                what = f"guessing the {name} of training people by the dataset above that of held-out ones, by {space}"
                found.append(
                    _figure(f"attribute_{name}_{space}", what, told["disclosed"], told["interval"], MAX_DISCLOSED)
                )
    if reports is not None:
        found.append(_none("report_copies", "reports that copy a patient's", reports["copies"]))
        what = "reports that point to one patient more than held-out ones"
        # the threshold is one of finitely many held-out reports: it may flag more than `level` by chance
        found.append(_share("near_reports", what, reports["flagged"], reports["control"]["interval"][1]))
    for kind, sides in traces.items():
        if kind in IDENTIFYING and sides["held_out"] is not None:
            what = f"reports with {kind}"
            found.append(_share(f"traces_{kind}", what, sides["generated"], sides["held_out"]["interval"][1]))
    return found


def verdict(found: Sequence[Check]) -> str:
    """`pass` if all checks passed, else `fail`."""
    return "pass" if all(check.passed for check in found) else "fail"


def _none(name: str, what: str, count: int) -> Check:
    return Check(name, what, count, None, 0, count == 0)


def _share(name: str, what: str, share: Mapping[str, Any], limit: float) -> Check:
    return _figure(name, what, share["share"], share["interval"], limit)


def _figure(name: str, what: str, value: float, interval: Sequence[float], limit: float) -> Check:
    low, high = interval
    return Check(name, what, value, (low, high), limit, low <= limit)
