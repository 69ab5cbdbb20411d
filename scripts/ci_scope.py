"""Which tests a change needs: prints the target of make, and the reason on stderr.

    make $(python scripts/ci_scope.py tests)    # `test-all`, or `test`, which omits the thorough ones
    make $(python scripts/ci_scope.py slurm)    # `slurm`, or `slurm-core`

All tests on a real SLURM if the change touches `cluster/`, `jobs/` or `tests/slurm/`, a module that one of the two
packages imports, a module that a test of SLURM names, or the pinned packages; otherwise only the core. All other tests
if it touches what the thorough ones cover (searches, experiments, the workers that both train with, the demo, the
notebook, decoding of DICOM), those tests, or the pinned packages. The change is the difference between its base and the
working tree. Its base: CI_BASE if set; else where this branch left origin/main; else, on main itself, the last commit
that is three hours older than the newest.

Indirect imports do not count: through the stages that jobs run, they are all of emixer, and through `emixer.config`
every setting of every stage. What a stage does in a job, the core covers; the nightly runs everything.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp

PINS = "requirements.lock"
_HOURS = 3


@dataclass(frozen=True)
class Suite:
    """A test suite of which a change needs all tests, or only the core."""

    whole: str
    core: str
    """Targets of make."""
    paths: tuple[str, ...]
    """Path prefixes whose changes need the whole suite."""
    what: str
    """The same in words."""
    packages: tuple[str, ...] = ()
    """Modules that these packages import count too, ..."""
    tests: str | None = None
    """... and so do modules that the tests in this folder name."""


SUITES = {
    "slurm": Suite(
        whole="slurm",
        core="slurm-core",
        # a stage joins its job's Ray cluster by name, so no import shows it
        paths=("cluster/", "jobs/", "tests/slurm/", "emixer/ray_session.py"),
        what="part of cluster or jobs, or imported by them",
        packages=("cluster", "jobs"),
        tests="tests/slurm",
    ),
    "tests": Suite(
        whole="test-all",
        core="test",
        paths=(
            "emixer/tuning/", "emixer/stages/tune", "emixer/experiments/", "emixer/stages/experiment",
            "emixer/training/plan.py", "emixer/training/workers.py", "emixer/ray_session.py", "emixer/local_ray.py",
            "tests/stages/searches.py", "tests/stages/test_tune", "tests/stages/test_experiment",
            "tests/test_ray_session.py", "tests/test_errors.py", "emixer/cli/demo.py", "tests/cli/test_demo.py",
            "docs/examples/", "tests/test_example_notebook.py", "emixer/data/dicom", "emixer/data/encoded_size.py",
            "tests/stages/test_ingest_mutated.py",
        ),
        what="part of what the thorough tests cover",
    ),
}  # fmt: skip


class UnknownBaseError(Exception):
    """The base of the change cannot be determined."""


def scope(root: Path, suite: Suite) -> tuple[str, str]:
    """Target of make, and the reason in words."""
    try:
        base, why = _base(root)
        changed = _changed(root, base)
    except UnknownBaseError as error:
        return suite.whole, str(error)
    since = f"since {base[:10]} ({why})"
    touched = sorted(set(changed) & _watched(root, suite) | {path for path in changed if path.startswith(suite.paths)})
    if not touched:
        return suite.core, f"none of the {len(changed)} files changed {since} is {suite.what}"
    shown = ", ".join(touched[:3]) + (f" and {len(touched) - 3} more" if len(touched) > 3 else "")
    return suite.whole, f"{shown} changed {since}"


def _base(root: Path) -> tuple[str, str]:
    head = _git(root, "rev-parse", "HEAD")
    if given := os.environ.get("CI_BASE"):
        return _found(root, "merge-base", given, "HEAD", unknown=f"CI_BASE={given} is no commit here"), "CI_BASE"
    if _git(root, "rev-parse", "--verify", "--quiet", "origin/main"):
        left = _git(root, "merge-base", "origin/main", "HEAD")
        if left and left != head:
            return left, "where it left origin/main"
    newest = int(_git(root, "show", "--no-patch", "--format=%ct", "HEAD"))
    before = f"--before={newest - _HOURS * 3600}"
    unknown = f"no commit here is {_HOURS} hours older than the newest"
    return _found(root, "rev-list", "--max-count=1", before, "HEAD", unknown=unknown), f"the last {_HOURS} hours"


def _found(root: Path, *arguments: str, unknown: str) -> str:
    commit = _git(root, *arguments)
    if not commit:
        raise UnknownBaseError(f"{unknown}, so that what has changed is not known")
    return commit


def _changed(root: Path, base: str) -> list[str]:
    """Files that differ from that commit, including uncommitted ones."""
    listed = [
        _git(root, "diff", "--name-only", "--no-renames", "-z", base),
        _git(root, "ls-files", "--others", "--exclude-standard", "-z"),
    ]
    return sorted({path for output in listed for path in output.split("\0") if path})


def _watched(root: Path, suite: Suite) -> set[str]:
    """Files beyond `suite.paths` that may affect the suite."""
    if not suite.packages:
        return {PINS}
    sys.path.insert(0, str(root))
    graph = grimp.build_graph(*suite.packages, "emixer", cache_dir=None)
    own = [module for module in graph.modules if module.partition(".")[0] in suite.packages]
    imported = {other for module in own for other in graph.find_modules_directly_imported_by(module)}
    tests = (root / suite.tests).glob("*.py") if suite.tests else ()
    named = {name for path in tests for name in _named(path)}
    return {PINS, *(path for module in {*own, *imported, *(named & graph.modules)} for path in _files(root, module))}


def _named(test: Path) -> Iterator[str]:
    """Names in the imports of that file that may be modules."""
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(root: Path, module: str) -> Iterator[str]:
    path = module.replace(".", "/")
    yield from (found for found in (f"{path}.py", f"{path}/__init__.py") if (root / found).exists())


def _git(root: Path, *arguments: str) -> str:
    """Output of git; empty if it fails."""
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    target, reason = scope(Path.cwd(), SUITES[parser.parse_args().suite])
    print(f"{target}: {reason}", file=sys.stderr)
    print(target)
