"""The finding of one check, as a line for people and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """Works, but slowly or with limits."""
    PROBLEM = "problem"
    """Something that emixer needs does not work."""


@dataclass(frozen=True)
class Finding:
    """Result of one check. check: its name. what: what was observed. remedy: what to do, if anything."""

    check: str
    state: State
    what: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.state is State.OK or self.remedy, f"{self.check}: a complaint says what to do"


def ok(check: str, what: str) -> Finding:
    """Finding that needs no action."""
    return Finding(check, State.OK, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Finding about something that works but could be better."""
    return Finding(check, State.WARNING, what, remedy)


def problem(check: str, what: str, remedy: str) -> Finding:
    """Finding about something that must be fixed."""
    return Finding(check, State.PROBLEM, what, remedy)


def in_words(finding: Finding) -> str:
    """Format a finding as a line, with the remedy below it."""
    start = f"{finding.state.value:<7} {finding.check}: "
    return start + finding.what + (f"\n{'':<7} -> {finding.remedy}" if finding.remedy else "")


def sum_in_words(findings: Sequence[Finding]) -> str:
    """Number of problems and warnings, in words."""
    problems = sum(finding.state is State.PROBLEM for finding in findings)
    warnings = sum(finding.state is State.WARNING for finding in findings)
    return f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}."


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings as `{"healthy": bool, "findings": [{check, state, what, remedy}, ...]}`."""
    return {
        "healthy": all(finding.state is not State.PROBLEM for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def _counted(number: int, noun: str) -> str:
    return f"{number or 'No'} {noun}{'' if number == 1 else 's'}"
