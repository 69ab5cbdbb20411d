"""What the autoscaler's provider makes of jobs that fail, with a stand-in for squeue and a real Ray."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.event_log import EventLog
from cluster.node.ray_state import ask_ray

from ..conftest import head_node

AUTOSCALER = """
import sys, time
from pathlib import Path
import yaml
from cluster.head import provider

home, address = Path(sys.argv[1]), sys.argv[2]
provider._SETTLED_S = 1.0
of_type = {"max": 4, "min": 0, "options": [], "script": "", "resources": {"CPU": 1}}
autoscaling = home / "autoscaling.yaml"
autoscaling.write_text(yaml.safe_dump({"available_node_types": {"cpu": {}, "other": {}}}))
nodes = provider.SlurmNodeProvider(
    {"attempt": "a", "key": "one", "folder": str(home), "address": address, "poll_s": 0, "pending_timeout_s": None,
     "node_types": {"cpu": of_type, "other": of_type}}, "one")

def limit(*jobs, seconds=0, until=None):
    end = time.monotonic() + seconds
    lines = [f"{number}|{state}|None|1:00|n1|N/A|N/A|ray:one:a:cpu:r" for number, state in jobs]
    (home / "queue").write_text("\\n".join(lines) + "\\n")
    while True:
        nodes.non_terminated_nodes({})
        now = yaml.safe_load(autoscaling.read_text())["available_node_types"]["cpu"].get("max_workers", 4)
        if now == until or time.monotonic() >= end:
            return now

print(
    limit((8, "RUNNING"), seconds=3),
    limit((8, "OUT_OF_MEMORY")),
    limit((10, "RUNNING"), seconds=4),
    limit((9, "RUNNING"), (10, "RUNNING"), seconds=60, until=4),
    limit((9, "FAILED"), (10, "RUNNING"), (11, "CANCELLED"), (12, "PREEMPTED"), (13, "TIMEOUT")),
    limit((10, "FAILED")),
)
"""
"""Prints how many nodes of a type Ray may have after each turn of the queue."""


@pytest.mark.ray
def test_jobs_that_fail_before_ray_has_had_their_node_for_a_while_suspend_their_type(
    tmp_path: Path, disk: Path, command: Callable[[str, str], None]
) -> None:
    command("squeue", f"cat {tmp_path}/home/queue")
    with head_node(tmp_path, disk, instance="9") as (head, process, log):
        while ask_ray(head, "--nodes=1", "--patience=20") is None:
            assert process.poll() is None, log.read_text()
        done = subprocess.run(
            [sys.executable, "-c", AUTOSCALER, str(tmp_path / "home"), head.address], capture_output=True, text=True,
            env={**os.environ, **head.environment()}, check=False, timeout=300,
        )  # fmt: skip
    assert done.stdout.split() == ["4", "0", "1", "4", "4", "0"], done.stderr
    refused = [entry.detail for entry in EventLog(tmp_path / "home").last(9) if entry.what == "refused"]
    assert [" ".join(words.split()[:5]) for words in refused] == [
        "job 8 ended as OUT_OF_MEMORY", "job 10 ended as FAILED",
    ]  # fmt: skip
