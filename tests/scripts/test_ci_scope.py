"""Which tests a change needs, told in a repository of a few lines."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "ci_scope.py"
FILES = {
    "cluster/__init__.py": "",
    "cluster/head.py": "import json\n",
    "jobs/__init__.py": "",
    "jobs/cli.py": "from emixer.config import load\n",
    "emixer/__init__.py": "",
    "emixer/config.py": "from emixer import units\nload = units\n",
    "emixer/units.py": "",
    "emixer/ray_session.py": "",
    "emixer/losses.py": "",
    "emixer/train.py": "import emixer.losses\n",
    "emixer/tuning/study.py": "",
    "emixer/stages/tune.py": "",
    "tests/slurm/test_jobs.py": "from emixer import train\n",
    "requirements.lock": "ray==2.60.0\n",
    "README.md": "",
}
DAY = 24 * 3600


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

    def scope(self, base: str | None = None, suite: str = "slurm") -> tuple[str, str]:
        """The target, and the reason."""
        environment = {name: value for name, value in os.environ.items() if name not in ("CI_BASE", "PYTHONPATH")}
        done = subprocess.run(
            [sys.executable, str(SCRIPT), suite], cwd=self.folder, capture_output=True, text=True, check=True,
            env=environment | ({} if base is None else {"CI_BASE": base}),
        )  # fmt: skip
        return done.stdout.strip(), done.stderr.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("cluster/head.py", "slurm"),
        ("cluster/configs/site.yaml", "slurm"),
        ("jobs/new.py", "slurm"),
        ("tests/slurm/test_jobs.py", "slurm"),
        ("emixer/config.py", "slurm"),
        ("emixer/train.py", "slurm"),
        ("emixer/ray_session.py", "slurm"),
        ("requirements.lock", "slurm"),
        ("emixer/units.py", "slurm-core"),
        ("emixer/losses.py", "slurm-core"),
        ("README.md", "slurm-core"),
        ("tests/jobs/test_cli.py", "slurm-core"),
    ],
)
def test_all_run_for_what_the_machinery_is_made_of_and_the_core_for_the_rest(
    repository: Repository, path: str, target: str
) -> None:
    repository.write(path, "import os\n")
    repository.commit(at=60)
    found, reason = repository.scope()
    assert found == target, reason
    assert (path in reason) == (target == "slurm")
    assert "where it left origin/main" in reason


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("emixer/tuning/study.py", "test-all"),
        ("emixer/stages/tune.py", "test-all"),
        ("emixer/ray_session.py", "test-all"),
        ("requirements.lock", "test-all"),
        ("tests/stages/test_tune_interrupted.py", "test-all"),
        ("emixer/losses.py", "test"),
        ("cluster/head.py", "test"),
    ],
)
def test_thorough_ones_run_for_what_they_prove(repository: Repository, path: str, target: str) -> None:
    repository.write(path, "import os\n")
    repository.commit(at=60)
    found, reason = repository.scope(suite="tests")
    assert found == target, reason
    assert (path in reason) == (target == "test-all")


def test_what_is_not_committed_yet_counts(repository: Repository) -> None:
    repository.commit(at=60)
    repository.write("cluster/head.py", "import os\n")
    assert repository.scope()[0] == "slurm"
    repository.git("checkout", "--quiet", ".")
    assert repository.scope()[0] == "slurm-core"
    repository.write("cluster/new.py", "")
    assert repository.scope()[0] == "slurm"


def test_a_file_that_is_deleted_or_has_moved_counts(repository: Repository) -> None:
    repository.git("mv", "cluster/head.py", "emixer/head.py")
    repository.commit(at=60)
    assert repository.scope()[0] == "slurm"


def test_on_main_itself_the_last_three_hours_are_the_change(repository: Repository) -> None:
    repository.write("cluster/head.py", "import os\n")
    repository.commit(at=DAY, push=True)
    repository.write("README.md", "more")
    repository.commit(at=DAY + 4 * 3600, push=True)
    assert repository.scope()[0] == "slurm-core"
    repository.write("README.md", "still more")
    repository.commit(at=DAY + 2 * 3600, push=True)
    target, reason = repository.scope()
    assert target == "slurm"
    assert "the last 3 hours" in reason


def test_a_base_that_is_given_goes_before(repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.write("jobs/cli.py", "import os\n")
    second = repository.commit(at=60)
    assert repository.scope(first)[0] == "slurm"
    target, reason = repository.scope(second)
    assert target == "slurm-core"
    assert "CI_BASE" in reason


@pytest.mark.parametrize("make", [lambda repository: "0" * 40, lambda repository: None])
def test_all_run_where_the_change_cannot_be_told(
    repository: Repository, make: Callable[[Repository], str | None]
) -> None:
    """A base that was not fetched, and a history that begins an hour ago."""
    target, reason = repository.scope(make(repository))
    assert target == "slurm"
    assert "not known" in reason
