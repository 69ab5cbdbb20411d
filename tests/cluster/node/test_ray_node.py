"""A private Ray node starts, serves, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray.autoscaler.v2.monitor import AutoscalerMonitor

from cluster.head import provider
from cluster.node.fair_share import worker_environment
from cluster.node.ray_node import has_started
from cluster.node.ray_state import ask_ray

from ..conftest import head_node


@pytest.mark.ray
def test_ask_ray_waits_for_the_node_and_no_file_is_left(tmp_path: Path, disk: Path) -> None:
    with head_node(tmp_path, disk) as (head, process, log):
        state = None
        while state is None and process.poll() is None:
            state = ask_ray(head, "--nodes=1", "--patience=120")
        assert state is not None, log.read_text()
        assert (list(state["joined"]), state["nodes"], state["demands"]) == (["head"], 1, [])
        too_many = ask_ray(head, "--nodes=2", "--patience=0.5")
        assert too_many is not None
        assert too_many["nodes"] == 1
        assert process.poll() is None
        assert has_started(log, 0)
        assert not has_started(log, log.stat().st_size), "not since then"
    assert list(disk.iterdir()) == []
    assert not head.answers()


NICER = """
import os, ray
ray.init(log_to_driver=False)
print("nicer by", ray.get(ray.remote(lambda: os.nice(0)).remote()) - os.nice(0))
"""


@pytest.mark.ray
@pytest.mark.parametrize(("asked", "nicer_by"), [(None, 0), ("3", 3)])
def test_workers_have_the_niceness_of_their_parent_unless_set(
    asked: str | None, nicer_by: int, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    if asked is not None:
        monkeypatch.setenv("RAY_worker_niceness", asked)
    with head_node(tmp_path, disk) as (head, process, _):
        while ask_ray(head, "--nodes=1", "--patience=20") is None and process.poll() is None:
            pass
        driver = {**os.environ, **head.environment(), **worker_environment(), "RAY_ADDRESS": head.address}
        done = subprocess.run(
            [sys.executable, "-c", NICER], env=driver, capture_output=True, text=True, check=False, timeout=300
        )
    assert f"nicer by {nicer_by}" in done.stdout, done.stderr


def test_ray_monitor_uses_the_interval_the_provider_sets() -> None:
    assert provider._INTERVAL in AutoscalerMonitor._run.__code__.co_names
