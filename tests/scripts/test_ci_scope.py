"""Test files that a change needs in full, told in a repository of a few lines."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "ci_scope.py"
FILES = {
    "cluster/__init__.py": "",
    "cluster/head.py": "import json\n",
    "cluster/node.py": "from cluster import slurm\n",
    "cluster/slurm.py": "",
    "jobs/__init__.py": "",
    "jobs/cli.py": "from cluster import node\nfrom emixer.config import load\n",
    "emixer/__init__.py": "",
    "emixer/config.py": "from emixer import units\nload = units\n",
    "emixer/units.py": "",
    "emixer/ray_session.py": "",
    "emixer/losses.py": "",
    "emixer/train.py": "import emixer.losses\n",
    "emixer/tuning/study.py": "",
    "emixer/stages/tune.py": "",
    "emixer/experiments/render.py": "",
    "tests/slurm/test_jobs.py": "from emixer import train\n",
    "tests/stages/test_tune.py": "",
    "requirements.lock": "ray==2.60.0\n",
    "README.md": "",
}
DAY = 24 * 3600
JOBS = ["test_jobs", "test_accounting", "test_without_root", "test_batch_script"]
CLUSTERS = ["test_cluster", "test_without_root"]
ALL_ON_SLURM = [*JOBS, "test_cluster"]
SEARCHES, WORKERS = ["test_tune", "test_tune_interrupted"], ["test_ray_session", "test_errors", "test_train"]


class Repository:
    """One that a clone of `origin` is worked in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")
        for path, text in FILES.items():
            self.write(path, text)
        self.commit(at=0)
        self.git("remote", "add", "origin", str(folder))
        self.git("fetch", "--quiet", "origin")

    def git(self, *arguments: str, at: int = 0) -> str:
        dates = {f"GIT_{who}_DATE": f"{1_800_000_000 + at} +0000" for who in ("AUTHOR", "COMMITTER")}
        names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        done = subprocess.run(
            ["git", *arguments], cwd=self.folder, env={**os.environ, **dates, **names}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def commit(self, at: int, push: bool = False) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=.", at=at)
        if push:
            self.git("fetch", "--quiet", "origin")
        return self.git("rev-parse", "HEAD")

    def scope(self, base: str | None = None, suite: str = "slurm") -> tuple[list[str], str]:
        """Names of the files, and the reasons."""
        environment = {name: value for name, value in os.environ.items() if name not in ("CI_BASE", "PYTHONPATH")}
        done = subprocess.run(
            [sys.executable, str(SCRIPT), suite], cwd=self.folder, capture_output=True, text=True, check=True,
            env=environment | ({} if base is None else {"CI_BASE": base}),
        )  # fmt: skip
        return [Path(file).stem for file in done.stdout.split()], done.stderr.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("cluster/head.py", CLUSTERS),
        ("cluster/configs/site.yaml", CLUSTERS),
        ("cluster/node.py", ALL_ON_SLURM),  # jobs imports it
        ("cluster/node/reaper.py", ALL_ON_SLURM),  # a process of its own: nobody imports it
        ("cluster/slurm.py", ALL_ON_SLURM),  # through cluster.node
        ("jobs/new.py", JOBS),
        ("tests/slurm/test_jobs.py", JOBS),
        ("tests/slurm/testbed.py", ALL_ON_SLURM),
        ("emixer/config.py", JOBS),
        ("emixer/train.py", JOBS),
        ("emixer/ray_session.py", ALL_ON_SLURM),
        ("requirements.lock", ALL_ON_SLURM),
        ("emixer/units.py", []),
        ("emixer/losses.py", []),
        ("README.md", []),
        ("tests/jobs/test_cli.py", []),
    ],
)
def test_slurm_files_needed_by_a_change(repository: Repository, path: str, needed: list[str]) -> None:
    repository.write(path, "import os\n")
    repository.commit(at=60)
    found, reasons = repository.scope()
    assert found == needed, reasons
    assert (path in reasons) == bool(needed)
    assert "where it left origin/main" in reasons


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("emixer/tuning/study.py", SEARCHES),
        ("emixer/stages/tune.py", SEARCHES),
        ("tests/stages/test_tune.py", SEARCHES),
        ("emixer/experiments/render.py", ["test_experiment"]),
        ("emixer/ray_session.py", WORKERS),
        ("cluster/node/drain.py", WORKERS),
        ("emixer/losses.py", []),
        ("cluster/head.py", []),
    ],
)
def test_thorough_files_needed_by_a_change(repository: Repository, path: str, needed: list[str]) -> None:
    repository.write(path, "import os\n")
    repository.commit(at=60)
    found, reasons = repository.scope(suite="tests")
    assert found == needed, reasons
    assert (path in reasons) == bool(needed)


def test_new_pins_need_every_thorough_test(repository: Repository) -> None:
    repository.write("requirements.lock", "ray==2.61.0\n")
    assert repository.scope(suite="tests")[0] == [
        *SEARCHES, "test_experiment", *WORKERS, "test_demo", "test_example_notebook", "test_ingest_mutated"
    ]  # fmt: skip


def test_every_long_test_is_in_an_area() -> None:
    """Otherwise no change would run it; and a file that has moved could not be run."""
    root = Path(__file__).parents[2]
    suites = runpy.run_path(str(SCRIPT))["SUITES"]
    thorough = {path for path in (root / "tests").rglob("test_*.py") if "pytest.mark.thorough" in path.read_text()}
    for suite, wanted in (
        ("tests", thorough - {Path(__file__)}),
        ("slurm", {*(root / "tests/slurm").glob("test_*.py")}),
    ):
        assert {root / file for area in suites[suite].values() for file in area.files} == wanted


def test_what_is_not_committed_yet_counts(repository: Repository) -> None:
    repository.commit(at=60)
    repository.write("cluster/head.py", "import os\n")
    assert repository.scope()[0] == CLUSTERS
    repository.git("checkout", "--quiet", ".")
    assert repository.scope()[0] == []
    repository.write("cluster/new.py", "")
    assert repository.scope()[0] == CLUSTERS


def test_a_file_that_is_deleted_or_has_moved_counts(repository: Repository) -> None:
    repository.git("mv", "cluster/head.py", "emixer/head.py")
    repository.commit(at=60)
    assert repository.scope()[0] == CLUSTERS


def test_on_main_itself_the_last_three_hours_are_the_change(repository: Repository) -> None:
    repository.write("cluster/head.py", "import os\n")
    repository.commit(at=DAY, push=True)
    repository.write("README.md", "more")
    repository.commit(at=DAY + 4 * 3600, push=True)
    assert repository.scope()[0] == []
    repository.write("README.md", "still more")
    repository.commit(at=DAY + 2 * 3600, push=True)
    target, reason = repository.scope()
    assert target == CLUSTERS
    assert "the last 3 hours" in reason


def test_a_base_that_is_given_goes_before(repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.write("jobs/cli.py", "import os\n")
    second = repository.commit(at=60)
    assert repository.scope(first)[0] == JOBS
    target, reason = repository.scope(second)
    assert target == []
    assert "CI_BASE" in reason


@pytest.mark.parametrize("make", [lambda repository: "0" * 40, lambda repository: None])
def test_all_run_where_the_change_cannot_be_told(
    repository: Repository, make: Callable[[Repository], str | None]
) -> None:
    """A base that was not fetched, and a history that begins an hour ago."""
    target, reason = repository.scope(make(repository))
    assert target == ALL_ON_SLURM
    assert "not known" in reason
