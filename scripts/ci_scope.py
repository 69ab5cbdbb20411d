"""Test files of which a change needs all tests, not only those that run on every commit: one line, empty for none.

    make thorough FILES="$(python scripts/ci_scope.py tests)"
    make slurm-others FILES="$(python scripts/ci_scope.py slurm)"

The reasons go to stderr. Each area below has its test files, and path prefixes of the changes that need them; on a real
SLURM also modules that the area's package imports, and those that its tests name. A change of the pinned packages needs
everything. The change is the difference between its base and the working tree. Its base: CI_BASE if set; else where
this branch left origin/main; else, on main itself, the last commit that is three hours older than the newest. If that
cannot be told, everything runs.

Indirect imports outside the two packages do not count: through the stages that jobs run, they are all of emixer, and
through `emixer.config` every setting of every stage. What a stage does in a job, the core covers; the nightly runs
everything.
"""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp

PINS = "requirements.lock"
_HOURS = 3


@dataclass(frozen=True)
class Area:
    """Tests that only some changes need."""

    files: tuple[str, ...]
    """Of its tests. A change of one needs them too."""
    paths: tuple[str, ...] = ()
    """Path prefixes of the changes that need them."""
    package: str | None = None
    """What this package imports counts too, and so do modules that the tests name."""


_ON_SLURM = ("tests/slurm/conftest.py", "tests/slurm/testbed.py", "emixer/ray_session.py")
"""A stage joins its job's Ray cluster by name, so no import shows the last one."""
SUITES = {
    "tests": {
        "searches": Area(
            ("tests/stages/test_tune.py", "tests/stages/test_tune_interrupted.py"),
            ("emixer/tuning/", "emixer/stages/tune", "tests/stages/searches.py"),
        ),
        "tables": Area(("tests/stages/test_experiment.py",), ("emixer/experiments/", "emixer/stages/experiment")),
        "Ray and its workers": Area(
            ("tests/test_ray_session.py", "tests/test_errors.py", "tests/stages/test_train.py"),
            (
                "emixer/training/plan.py", "emixer/training/workers.py", "emixer/training/process_group.py",
                "emixer/training/loop.py", "emixer/training/reporter.py", "emixer/ray_session.py",
                "emixer/local_ray.py", "cluster/node/",
            ),
        ),
        "the demo": Area(("tests/cli/test_demo.py",), ("emixer/cli/demo.py",)),
        "the notebook": Area(("tests/test_example_notebook.py",), ("docs/examples/",)),
        "damaged files": Area(
            ("tests/stages/test_ingest_mutated.py",),
            ("emixer/data/dicom", "emixer/data/encoded_size.py", "tests/data/mutations.py"),
        ),
    },
    "slurm": {
        "jobs": Area(
            (
                "tests/slurm/test_jobs.py", "tests/slurm/test_accounting.py", "tests/slurm/test_without_root.py",
                "tests/slurm/test_batch_script.py",
            ),
            ("jobs/", "cluster/node/", "docs/hpc.md", *_ON_SLURM), package="jobs",
        ),
        "clusters": Area(
            ("tests/slurm/test_cluster.py", "tests/slurm/test_without_root.py"), ("cluster/", *_ON_SLURM),
            package="cluster",
        ),
    },
}  # fmt: skip


class UnknownBaseError(Exception):
    """The base of the change cannot be determined."""


def scope(root: Path, suite: str) -> tuple[list[str], list[str]]:
    """The test files, and the reasons in words."""
    areas = SUITES[suite]
    try:
        base, why = _base(root)
        changed = _changed(root, base)
    except UnknownBaseError as error:
        return list(dict.fromkeys(file for area in areas.values() for file in area.files)), [f"all: {error}"]
    since = f"since {base[:10]} ({why})"
    files, reasons, others = [], [], []
    for name, area in areas.items():
        watched = _watched(root, area)
        touched = [path for path in changed if path in watched or path.startswith(area.paths)]
        if touched:
            files += area.files
            shown = ", ".join(touched[:3]) + (f" and {len(touched) - 3} more" if len(touched) > 3 else "")
            reasons.append(f"{name}: {shown} changed {since}")
        else:
            others.append(name)
    if others:
        reasons.append(f"not {', '.join(others)}: none of the {len(changed)} files changed {since} is about them")
    return list(dict.fromkeys(files)), reasons


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


def _watched(root: Path, area: Area) -> set[str]:
    """Files beyond `area.paths` that may affect its tests."""
    watched = {PINS, *area.files}
    if area.package is None:
        return watched
    graph = _import_graph(root)
    own, waiting = set[str](), [name for name in graph.modules if name.partition(".")[0] == area.package]
    while waiting:
        if (module := waiting.pop()) not in own:
            own.add(module)
            if not module.startswith("emixer"):
                waiting += graph.find_modules_directly_imported_by(module)
    named = {name for file in area.files for name in _named(root / file)}
    return watched | {path for module in own | (named & graph.modules) for path in _files(root, module)}


@cache
def _import_graph(root: Path) -> grimp.ImportGraph:
    sys.path.insert(0, str(root))
    return grimp.build_graph("cluster", "jobs", "emixer", cache_dir=None)


def _named(test: Path) -> Iterator[str]:
    """Names in the imports of that file that may be modules."""
    if not test.exists():
        return
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
    suite = parser.parse_args().suite
    files, reasons = scope(Path.cwd(), suite)
    print(*(f"{suite}, {reason}" for reason in reasons), sep="\n", file=sys.stderr)
    print(*files)
