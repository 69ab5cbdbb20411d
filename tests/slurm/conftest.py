"""Fixtures of the tests on a real SLURM."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, to_yaml, with_overrides

ROOT = Path(__file__).parents[2]


def _load_testbed() -> Any:
    spec = importlib.util.spec_from_file_location("emixer_testbed", Path(__file__).with_name("testbed.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


testbed = _load_testbed()


@pytest.fixture(scope="session")
def bed() -> Iterator[Any]:
    """A SLURM of four nodes for the session."""
    reason = testbed.TestBed.why_not()
    if reason is not None:
        pytest.skip(reason)
    try:
        started = testbed.TestBed.start(nodes=4)
    except (TimeoutError, OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"SLURM did not come up on this machine: {error}")
    yield started
    started.stop()


class Site:
    """A user's folder on the cluster, and the commands they give on the login node."""

    def __init__(self, bed: Any, folder: Path, config: Config) -> None:
        self.bed, self.folder = bed, folder
        self.config_file = folder / "site.yaml"
        self.config_file.write_text(to_yaml(config))
        self.submitted: list[str] = []

    def jobs(self, *arguments: str, check: bool = True) -> Any:
        """`python -m jobs ...`."""
        return self.bed.run(
            [sys.executable, "-m", "jobs", *arguments], check=check, cwd=self.folder,
            environment={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def submit(self, *arguments: str) -> str:
        """Submits a stage with the site's config. Returns the job's id."""
        stage, *rest = arguments
        done = self.jobs(stage, "--config", str(self.config_file), *rest)
        job_id = str(done.stdout.split("job ")[1].split()[0].strip(","))
        self.submitted.append(job_id)
        return job_id

    def status(self, job_id: str) -> dict[str, Any]:
        """One job of `python -m jobs status --json`."""
        shown = json.loads(self.jobs("status", "--json").stdout)
        return next(job for job in shown if job["job"] == job_id)

    def wait(self, job_id: str, state: str, timeout_s: float = 180) -> dict[str, Any]:
        """Until `jobs status` says that state; fails early when it says that it can no longer come to that."""
        over = {"finished", "failed", "cancelled", "gone", "timeout", "node_fail"}

        def reached() -> bool:
            now = self.status(job_id)["state"]
            if now != state and now in over:
                raise AssertionError(f"job {job_id} is {now}, not {state}\n{self.log(job_id)[-4000:]}")
            return bool(now == state)

        self.bed.wait_for(reached, timeout_s, f"job {job_id} becoming {state}\n{self.log(job_id)[-4000:]}")
        return self.status(job_id)

    def log(self, job_id: str) -> str:
        """What the job printed."""
        path = self.folder / "slurm-jobs" / job_id / f"{job_id}_0_log.out"
        return path.read_text(errors="replace") if path.exists() else "(no log)"


@pytest.fixture
def site(bed: Any, tmp_path: Path, tiny_config: Config) -> Iterator[Site]:
    """A user's folder with a config for small jobs."""
    asked = {
        "slurm.cpus": 2, "slurm.memory_gb": 2, "slurm.time_min": 30, "slurm.folder": tmp_path / "slurm-jobs",
        "slurm.local_disk": bed.disk, "train.run": tmp_path / "run", "train.batch_size": 32,
        "train.use_gpu": False, "optim.lr_generator": 1e-4, "optim.lr_discriminator": 1e-4,
    }  # fmt: skip
    made = Site(bed, tmp_path, with_overrides(tiny_config, asked))
    yield made
    for job_id in made.submitted:
        bed.run(["scancel", job_id], check=False)
    bed.wait_for(lambda: not bed.run(["squeue", "-h"], check=False).stdout.strip(), 60, "an empty queue")
