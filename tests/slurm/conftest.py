"""Fixtures of the tests on a real SLURM."""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.head.programs import programs
from emixer.config import Config, to_yaml, with_overrides

ROOT = Path(__file__).parents[2]
PACKAGES = Path(yaml.__file__).parents[1]
"""Where this environment's packages are installed, for another user's interpreter."""


def _load_testbed() -> Any:
    spec = importlib.util.spec_from_file_location("emixer_testbed", Path(__file__).with_name("testbed.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


testbed = _load_testbed()


def python_of_others() -> str:
    """Return an interpreter with which user `daemon` can import this code; the test's own may be in a folder closed to
    other users. Skip the test if there is none."""
    become = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "env", f"PYTHONPATH={ROOT}:{PACKAGES}"]
    for python in (sys.executable, shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")):
        if python is not None:
            tried = [*become, python, "-c", "import cluster, emixer, yaml, ray"]
            if subprocess.run(tried, capture_output=True, check=False, cwd="/").returncode == 0:
                return python
    pytest.skip(f"a second user can run no python3.{sys.version_info.minor}, or may not read {ROOT} or {PACKAGES}")


def failing_starts(folder: Path, times: int) -> dict[str, str]:
    """Return an environment in which the first `times` of `ray start` on each node end as they do where Ray is not up
    in time: a head's with all its processes running, another node's before the head knows of it."""
    (folder / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "node = os.environ.get('SLURMD_NODENAME', 'login')\n"
        "if 'ray.scripts.scripts' in sys.orig_argv and 'start' in sys.orig_argv:\n"
        "    number = len(list(pathlib.Path(__file__).parent.glob(f'failed-{node}-*')))\n"
        f"    if number < {times}:\n"
        "        pathlib.Path(__file__).with_name(f'failed-{node}-{number}').touch()\n"
        "        if '--head' not in sys.orig_argv:\n"
        "            os._exit(1)\n"
        "        from ray._private import services\n"
        "        def get_node(*_):\n"
        "            raise Exception('The current node timed out during startup.')\n"
        "        services.get_node = get_node\n"
    )
    return {"PYTHONPATH": f"{folder}:{ROOT}:{PACKAGES}"}


def hanging_starts(folder: Path) -> dict[str, str]:
    """Return an environment in which `ray start` never gets anywhere."""
    (folder / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'ray.scripts.scripts' in sys.orig_argv and 'start' in sys.orig_argv:\n"
        "    time.sleep(3600)\n"
    )
    return {"PYTHONPATH": f"{folder}:{ROOT}:{PACKAGES}"}


def folder_of(bed: Any, user: str) -> Path:
    """Create a folder owned by `user`; the folders pytest creates are closed to other users."""
    folder = Path(tempfile.mkdtemp(dir=bed.folder))
    shutil.chown(folder, user)
    return folder


@pytest.fixture(scope="session")
def bed() -> Iterator[Any]:
    """A SLURM cluster of four nodes, for the session."""
    reason = testbed.TestBed.why_not()
    if reason is not None:
        pytest.skip(reason)
    started = testbed.TestBed.start(nodes=4)
    yield started
    started.stop()


class Site:
    """A user's folder on the cluster and the commands that user runs on the login node."""

    def __init__(self, bed: Any, folder: Path, config: Config, python: str = sys.executable) -> None:
        self.bed, self.folder, self.python = bed, folder, python
        self.config_file = folder / "site.yaml"
        self.config_file.write_text(to_yaml(config))
        self.submitted: list[str] = []

    def jobs(
        self, *arguments: str, check: bool = True, environment: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> Any:
        """Run `python -m jobs ...`."""
        return self.bed.run(
            [self.python, "-m", "jobs", *arguments], check=check, cwd=self.folder, timeout_s=timeout_s,
            environment={"PYTHONPATH": f"{ROOT}:{PACKAGES}", "HOME": str(self.folder), **(environment or {})},
        )  # fmt: skip

    def submit(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Submit a stage, e.g. `train` or `experiment table1`, with the site's config. Return the id of the job or
        array."""
        stage, *rest = arguments
        done = self.jobs(*stage.split(), "--config", str(self.config_file), *rest, environment=environment)
        job_id = str(done.stdout.split(f"{stage.split()[0]}: ")[1].split()[1].strip(","))
        self.submitted.append(job_id)
        return job_id

    def status(self, job_id: str) -> dict[str, Any]:
        """Return one job's entry from `python -m jobs status --json`."""
        shown = json.loads(self.jobs("status", "--json").stdout)
        return next(job for job in shown if job["job"] == job_id)

    def wait(self, job_id: str, state: str, timeout_s: float = 180) -> dict[str, Any]:
        """Wait until `jobs status` shows `state`; fail early once the job can no longer reach it."""
        over = {"finished", "failed", "cancelled", "gone", "timeout", "node_fail"}

        def reached() -> bool:
            now = self.status(job_id)["state"]
            if now != state and now in over:
                raise AssertionError(f"job {job_id} is {now}, not {state}\n{self.log(job_id)[-4000:]}")
            return bool(now == state)

        self.bed.wait_for(reached, timeout_s, f"job {job_id} becoming {state}\n{self.log(job_id)[-4000:]}")
        return self.status(job_id)

    def log(self, job_id: str) -> str:
        """Return the job's output."""
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


class Cluster:
    """A user's autoscaled cluster and the commands that user runs on the login node."""

    def __init__(
        self, bed: Any, folder: Path, name: str, rays: str, settings: dict[str, Any], user: str | None = None,
        python: str = sys.executable,
    ) -> None:  # fmt: skip
        self.bed, self.folder, self.name, self.rays = bed, folder, name, folder / rays
        self.user, self.python = user, python
        tree = {
            "name": name, "folder": str(self.rays), "local_disk": str(bed.disk), "idle_timeout_s": 5, "poll_s": 1,
            "warn_s": 30, "head": {"cpus": 1, "memory_gb": 1, "time_min": 60},
            "node_types": {"cpu": {"cpus": 2, "memory_gb": 1.5, "time_min": 30, "max": 3}},
        }  # fmt: skip
        self.config_file = folder / f"{name}.yaml"
        self.config_file.write_text(yaml.safe_dump({**tree, **settings}))

    @property
    def home(self) -> Path:
        return self.rays / self.name

    def command(
        self, *arguments: str, check: bool = True, timeout_s: float = 300, environment: Mapping[str, str] | None = None
    ) -> Any:
        """Run `python -m cluster ...`, with the folder and name for the commands that take them."""
        first, *rest = arguments
        chosen = ["--folder", str(self.rays), "--name", self.name] if first not in ("up", "init") else []
        return self.as_documented(first, *chosen, *rest, check=check, timeout_s=timeout_s, environment=environment)

    def as_documented(
        self, *arguments: str, check: bool = True, timeout_s: float = 300, environment: Mapping[str, str] | None = None
    ) -> Any:
        """Run `python -m cluster ...` with exactly these arguments."""
        return self.bed.run(
            [self.python, "-m", "cluster", *arguments], check=check, cwd=self.folder, timeout_s=timeout_s,
            environment={
                "PYTHONPATH": f"{ROOT}:{PACKAGES}", "OMP_NUM_THREADS": "1", "HOME": str(self.folder),
                **(environment or {}),
            },
            user=self.user,
        )  # fmt: skip

    def up(self) -> "Cluster":
        self.command("up", "--config", str(self.config_file))
        return self

    def start(self, *command: str) -> int:
        """Submit a program without waiting for it. Return its number."""
        done = self.command("submit", "--no-wait", "--", *command)
        return int(done.stdout.split("program ")[1].split()[0])

    def run_python(self, program: str, check: bool = True) -> Any:
        """Run a Python program on the cluster and wait for it."""
        return self.command("submit", "--", self.python, "-c", program, check=check)

    def status(self) -> Any:
        return json.loads(self.command("status", "--json").stdout)

    def workers(self) -> list[dict[str, Any]]:
        """Return the jobs that are, or will become, nodes."""
        return [job for job in self.status()["jobs"] if job["kind"] not in ("head", "cleanup")]

    def events(self, what: str) -> list[dict[str, Any]]:
        """Return the events of one kind from the cluster's event log."""
        lines = (self.home / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["what"] == what]

    def most_workers(self) -> int:
        """Return how many workers the cluster had at most, from asking SLURM for a job to its end.

        How many were asked for in all depends on the machine: on a busy one, a node can be idle long enough to be
        released before Ray gives it a task, and is then asked for again.
        """
        present: set[str] = set()
        most = 0
        for line in (self.home / "events.jsonl").read_text().splitlines():
            event = json.loads(line)
            job = event["detail"].removeprefix("job ").split(":")[0].split()[:1]
            if event["what"] == "asked":
                present.update(job)
            elif event["what"] in ("released", "left"):
                present.difference_update(job)
            most = max(most, len(present))
        return most

    def program_state(self, number: int) -> dict[str, Any]:
        """Return a program's state, exit code and log, read from where `status` reads them."""
        (program,) = (each for each in programs(self.home) if each.number == number)
        return {"log": str(program.log), **program.state()}

    def assert_nothing_left(self, within_s: float = 10) -> None:
        """Check that no job, no process and no file on a local disk is left."""
        bed = self.bed
        bed.wait_for(lambda: not self.queued(), within_s, "the end of all jobs")
        bed.wait_for(lambda: not bed.processes_of("RAY_ON_SLURM="), within_s, "the end of Ray's processes")
        bed.wait_for(
            lambda: not any(list(bed.disk_of(node).iterdir()) for node in bed.names()), within_s, "clean local disks"
        )

    def queued(self) -> list[str]:
        """Return the ids of the cluster's jobs that have not ended."""
        shown = self.bed.run(["squeue", "-h", "-o", "%i %j"]).stdout.splitlines()
        return [line.split()[0] for line in shown if f" ray-{self.name}-" in line]


@pytest.fixture
def make_cluster(bed: Any, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Create clusters; take them down at the end."""
    made: list[Cluster] = []

    def make(
        name: str = "one", rays: str = "rays", user: str | None = None, python: str = sys.executable, **settings: Any
    ) -> Cluster:
        folder = tmp_path
        if user is not None:
            folder = folder_of(bed, user)
        made.append(Cluster(bed, folder, name, rays, settings, user, python))
        return made[-1]

    yield make
    for cluster in made:
        cluster.command("down", check=False)
        bed.run(["scancel", f"--user={cluster.user or bed.user}"], check=False)
    bed.wait_for(lambda: not bed.run(["squeue", "-h"], check=False).stdout.strip(), 60, "an empty queue")
