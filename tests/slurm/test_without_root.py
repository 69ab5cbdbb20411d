"""Clusters and jobs on a SLURM that needs neither root nor namespaces. If root runs the tests, the whole bed and the
commands belong to an unprivileged user."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, with_overrides

from .conftest import Cluster, Site, folder_of, python_of_others, testbed
from .test_cluster import tasks

pytestmark = pytest.mark.slurm

OWNER = "daemon" if os.geteuid() == 0 else None


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of the user who owns the bed."""
    return sys.executable if OWNER is None else python_of_others()


@pytest.fixture(scope="module")
def plain_bed(python: str) -> Iterator[Any]:
    """Three nodes on this machine."""
    reason = testbed.TestBed.why_not(isolated=False)
    if reason is not None:
        pytest.skip(reason)
    started = testbed.TestBed.start(nodes=3, isolated=False, owner=OWNER)
    yield started
    started.stop()


@pytest.fixture
def folder(plain_bed: Any) -> Path:
    """A folder owned by that user."""
    return folder_of(plain_bed, plain_bed.user)


def test_nothing_runs_as_root(plain_bed: Any) -> None:
    assert plain_bed.run(["id", "--user"]).stdout.strip() != "0"
    daemons = plain_bed.processes_of("SLURM_CONF=")
    assert sum("slurmd" in command for command in daemons.values()) == 3
    assert not [command for pid, command in daemons.items() if Path(f"/proc/{pid}").stat().st_uid == 0]


@pytest.mark.slurm_core
def test_cluster_scales_to_two_nodes_and_back(plain_bed: Any, folder: Path, python: str) -> None:
    types = {"cpu": {"cpus": 2, "memory_gb": 1.5, "time_min": 30, "max": 2}}
    cluster = Cluster(plain_bed, folder, "plain", "rays", {"node_types": types}, python=python)
    try:
        cluster.up()
        assert "8 tasks on" in cluster.command("submit", "--", python, *tasks(8, 1)[1:]).stdout
        assert cluster.most_workers() == 2, (cluster.home / "events.jsonl").read_text()
        plain_bed.wait_for(lambda: not cluster.workers(), 30, "the end of idle nodes")
    finally:
        cluster.command("down")
    cluster.assert_nothing_left()


def test_job_trains_on_two_nodes(plain_bed: Any, tiny_config: Config, folder: Path, python: str) -> None:
    assert tiny_config.data.shards is not None
    shards = Path(shutil.copytree(tiny_config.data.shards, folder / "shards"))  # pytest's folders are closed to others
    for path in (shards, *shards.rglob("*")):
        shutil.chown(path, plain_bed.user)
    asked = {
        "slurm.cpus": 1, "slurm.memory_gb": 1.5, "slurm.time_min": 30, "slurm.folder": folder / "slurm-jobs",
        "slurm.local_disk": plain_bed.disk, "slurm.nodes": 2, "train.run": folder / "run", "train.num_workers": 2,
        "train.use_gpu": False, "data.shards": shards,
    }  # fmt: skip
    site = Site(plain_bed, folder, with_overrides(tiny_config, asked), python)
    job = site.submit("train")
    site.wait(job, "finished")
    assert "Trained on 160 images" in site.log(job)
    assert (folder / "run").owner() == plain_bed.user
