"""Check of Python and of the packages that emixer requires against those installed."""

import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from emixer.doctor.finding import Finding, ok, problem
from emixer.extras import to_install

_EXTRAS = {
    "dicom": "DICOM images",
    "fid": "Inception and RAD-DINO features",
    "radgraph": "RadGraph F1",
    "wandb": "Weights & Biases",
    "mlflow": "MLflow",
    "web": "live page and reader study",
    "hub": "upload and download of models",
}


def look() -> list[Finding]:
    """Check Python, required packages that are missing or of the wrong version, and installed extras."""
    findings = [ok("Python", ".".join(map(str, sys.version_info[:3])))]
    needed = [Requirement(text) for text in requires("emixer") or ()]
    always = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [(one, found) for one in always if (found := _version(one)) is None or not _fits(one, found)]
    findings += [
        problem(
            "packages",
            f"{one.name} is {f'of version {found}' if found else 'not installed'}; {one.name}{one.specifier} is needed",
            f"pip install '{one.name}{one.specifier}'",
        )
        for one, found in wrong
    ]
    if not wrong:
        findings.append(
            ok("packages", f"all {len(always)} required ones, torch {version('torch')}, ray {version('ray')}")
        )
    there = [f"{name} ({what})" for name, what in _EXTRAS.items() if _is_complete(name, needed)]
    return [*findings, ok("extras", ", ".join(there) or f"none; {to_install('dicom')} adds DICOM")]


def _version(requirement: Requirement) -> str | None:
    try:
        return version(requirement.name)
    except PackageNotFoundError:
        return None


def _fits(requirement: Requirement, found: str) -> bool:
    """Whether that version is inside; so is one before a release, as NVIDIA's containers have of torch."""
    return requirement.specifier.contains(found, prereleases=True)


def _is_complete(extra: str, needed: list[Requirement]) -> bool:
    """Whether all packages of this extra are installed."""
    added = [one for one in needed if one.marker and one.marker.evaluate({"extra": extra})]
    return all(_version(one) is not None for one in added)
