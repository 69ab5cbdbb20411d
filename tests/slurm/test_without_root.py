"""The same on a SLURM that needs neither root nor namespaces: what people can run who have neither."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, with_overrides

from .conftest import Cluster, Site, testbed
from .test_cluster import tasks

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def plain_bed() -> Iterator[Any]:
    """Three nodes on this machine."""
    reason = testbed.TestBed.why_not(isolated=False)
    if reason is not None:
        pytest.skip(reason)
    started = testbed.TestBed.start(nodes=3, isolated=False)
    yield started
    started.stop()


def test_a_cluster_grows_to_two_nodes_and_back(plain_bed: Any, tmp_path: Path) -> None:
    types = {"cpu": {"cpus": 2, "memory_gb": 1.5, "time_min": 30, "max": 2}}
    cluster = Cluster(plain_bed, tmp_path, "plain", "rays", {"node_types": types})
    try:
        cluster.up()
        assert "8 tasks on" in cluster.command("submit", "--", *tasks(8, 1)).stdout
        assert len(cluster.events("asked")) == 2
        plain_bed.wait_for(lambda: not cluster.workers(), 30, "the end of idle nodes")
    finally:
        cluster.command("down")
    cluster.assert_nothing_left()


def test_a_job_trains_over_two_nodes(plain_bed: Any, tiny_config: Config, tmp_path: Path) -> None:
    asked = {
        "slurm.cpus": 1, "slurm.memory_gb": 1.5, "slurm.time_min": 30, "slurm.folder": tmp_path / "slurm-jobs",
        "slurm.local_disk": plain_bed.disk, "slurm.nodes": 2, "train.run": tmp_path / "run", "train.num_workers": 2,
        "train.use_gpu": False,
    }  # fmt: skip
    site = Site(plain_bed, tmp_path, with_overrides(tiny_config, asked))
    job = site.submit("train")
    site.wait(job, "finished")
    assert "Trained on 160 films" in site.log(job)
