"""Which tests on a real SLURM a change needs: prints the target of make, `slurm` or `slurm-core`, and on stderr why.

    make $(python scripts/slurm_scope.py)

All of them where the change touches `cluster/`, `jobs/` or `tests/slurm/`, a module that one of the two packages
imports (however indirectly), a module that a test of SLURM names, or the pinned packages; the core of them otherwise.
The change is what lies between its base and the files as they are. Its base: CI_BASE if that is set; else where this
branch left origin/main; else, on main itself, the last commit that is twelve hours older than the newest.

What the tests of SLURM import indirectly does not count: through the stages that they run it is all of emixer.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

PACKAGES = ("cluster", "jobs")
TESTS = "tests/slurm"
PINS = "requirements.lock"
MEETING = "emixer.ray_session"
"""Where a stage joins the Ray of its job: it is called by name, so that no import shows it."""
WHOLE, CORE = "slurm", "slurm-core"
_FOLDERS = tuple(f"{folder}/" for folder in (*PACKAGES, TESTS))
_HOURS = 12


class UnknownBaseError(Exception):
    """It cannot be told what has changed."""


def scope(root: Path) -> tuple[str, str]:
    """The target of make, and the reason in words."""
    try:
        base, why = _base(root)
        changed = _changed(root, base)
    except UnknownBaseError as error:
        return WHOLE, str(error)
    since = f"since {base[:10]} ({why})"
    touched = sorted(set(changed) & _watched(root) | {path for path in changed if path.startswith(_FOLDERS)})
    if not touched:
        return CORE, f"none of the {len(changed)} files changed {since} is part of cluster or jobs, or imported by them"
    shown = ", ".join(touched[:3]) + (f" and {len(touched) - 3} more" if len(touched) > 3 else "")
    return WHOLE, f"{shown} changed {since}"


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
    """Files that differ from that commit, those not committed yet among them."""
    listed = [
        _git(root, "diff", "--name-only", "--no-renames", "-z", base),
        _git(root, "ls-files", "--others", "--exclude-standard", "-z"),
    ]
    return sorted({path for output in listed for path in output.split("\0") if path})


def _watched(root: Path) -> set[str]:
    """Files by whose change the machinery of SLURM may change."""
    sys.path.insert(0, str(root))
    graph = grimp.build_graph(*PACKAGES, "emixer", cache_dir=None)
    own = [module for module in graph.modules if module.partition(".")[0] in PACKAGES]
    imported = {upstream for module in own for upstream in graph.find_upstream_modules(module)}
    named = {name for path in (root / TESTS).glob("*.py") for name in _named(path)}
    modules = {*own, *imported, *(named & graph.modules), MEETING}
    return {PINS, *(path for module in modules for path in _files(root, module))}


def _named(test: Path) -> Iterator[str]:
    """What may be a module in the imports of that file."""
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
    """What git says; nothing where it says no."""
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    target, reason = scope(Path.cwd())
    print(f"{target}: {reason}", file=sys.stderr)
    print(target)
