"""What one check found, as a line for people and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Works, but slower or less than it could."""
    PROBLEM = "problem"
    """Something that emixer needs does not work."""


@dataclass(frozen=True)
class Finding:
    """check: what was looked at. what: what was seen. remedy: what to do, where there is something to do."""

    check: str
    state: State
    what: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.state is State.OK or self.remedy, f"{self.check}: a complaint says what to do"


def ok(check: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(check, State.OK, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Something that could be better."""
    return Finding(check, State.WARNING, what, remedy)


def problem(check: str, what: str, remedy: str) -> Finding:
    """Something that has to be mended."""
    return Finding(check, State.PROBLEM, what, remedy)


def in_words(finding: Finding) -> str:
    """A line, and its remedy below it."""
    start = f"{finding.state.value:<7} {finding.check}: "
    return start + finding.what + (f"\n{'':<7} -> {finding.remedy}" if finding.remedy else "")


def sum_in_words(findings: Sequence[Finding]) -> str:
    """How many of them complain."""
    problems = sum(finding.state is State.PROBLEM for finding in findings)
    warnings = sum(finding.state is State.WARNING for finding in findings)
    return f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}."


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """`{"healthy": bool, "findings": [{check, state, what, remedy}, ...]}`."""
    return {
        "healthy": all(finding.state is not State.PROBLEM for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def _counted(number: int, noun: str) -> str:
    return f"{number or 'No'} {noun}{'' if number == 1 else 's'}"
