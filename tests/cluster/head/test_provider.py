"""What the autoscaler's provider makes of jobs that fail, with stand-ins for SLURM's commands; with a real Ray where
Ray is asked."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import files
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


@pytest.fixture
def nodes(tmp_path: Path, command: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A provider of two types, for a SLURM that refuses every job."""
    from cluster.head import provider

    monkeypatch.setattr(provider, "_HOLD_S", 3.0)
    monkeypatch.setattr(provider, "living_nodes", lambda address: set())
    monkeypatch.setattr(provider, "waiting_bundles", lambda address: [{"CPU": 1}])
    command("squeue", f"cat {tmp_path}/queue")
    command("sbatch", "echo 'sbatch: error: Batch job submission failed: QOSMaxSubmitJobPerUserLimit' >&2; exit 1")
    (tmp_path / "autoscaling.yaml").write_text(yaml.safe_dump({"available_node_types": {"cpu": {}, "other": {}}}))
    of_type = {"max": 4, "min": 0, "options": [], "script": "", "resources": {"CPU": 1}}
    return provider.SlurmNodeProvider(
        {"attempt": "a", "key": "one", "folder": str(tmp_path), "address": "", "poll_s": 0,
         "pending_timeout_s": None, "node_types": {"cpu": of_type, "other": of_type}}, "one")  # fmt: skip


@pytest.fixture
def limit(nodes: Any, tmp_path: Path) -> Callable[..., int]:
    """Shows these states of jobs to the provider. Returns how many nodes of their type Ray may have."""

    def look(*states: str) -> int:
        lines = [f"{number}|{state}|None|1:00|n1|N/A|N/A|ray:one:a:cpu:r" for number, state in enumerate(states)]
        (tmp_path / "queue").write_text("".join(f"{line}\n" for line in lines))
        nodes.non_terminated_nodes({})
        tree = yaml.safe_load((tmp_path / "autoscaling.yaml").read_text())
        return int(tree["available_node_types"]["cpu"].get("max_workers", 4))

    return look


@pytest.mark.parametrize(
    ("state", "reason", "is_failure"),
    [
        ("PENDING", "launch failed requeued held", True), ("PENDING", "launch_failed_requeued_held", True),
        ("PENDING", "user env retrieval failed requeued held", True), ("REQUEUE_HOLD", "None", True),
        ("SPECIAL_EXIT", "None", True), ("PENDING", "JobHeldUser", False), ("PENDING", "JobHeldAdmin", False),
        ("PENDING", "Priority", False),
    ],
)  # fmt: skip
def test_job_that_slurm_holds_after_a_failure_is_cancelled_and_suspends_its_type(
    state: str, reason: str, is_failure: bool, nodes: Any, tmp_path: Path, command: Callable[[str, str], None]
) -> None:
    over = "7|CANCELLED|None|0:00||N/A|N/A|ray:one:a:cpu:r"
    command("scancel", f"echo $* >> {tmp_path}/scancelled; echo '{over}' > {tmp_path}/queue")
    (tmp_path / "queue").write_text(f"7|{state}|{reason}|1:00||N/A|N/A|ray:one:a:cpu:r\n")
    alive = nodes.non_terminated_nodes({})
    assert alive == (["head"] if is_failure else ["head", "7"])
    refused = [entry.detail for entry in EventLog(tmp_path).last(9) if entry.what == "refused"]
    assert len(refused) == is_failure
    if is_failure:
        assert (tmp_path / "scancelled").read_text().split() == ["--quiet", "7"]
        assert refused[0].startswith("job 7 could not be started and was cancelled: ")
    else:
        assert not (tmp_path / "scancelled").exists()


def request(nodes: Any) -> None:
    """Ask for one more node, which SLURM refuses."""
    from ray.autoscaler.tags import TAG_RAY_LAUNCH_REQUEST, TAG_RAY_USER_NODE_TYPE

    from cluster.slurm import SlurmRefusalError

    with pytest.raises(SlurmRefusalError):
        nodes.create_node({}, {TAG_RAY_USER_NODE_TYPE: "cpu", TAG_RAY_LAUNCH_REQUEST: "r"}, 1)


def test_refused_job_costs_none_of_the_pending_ones_its_place_in_the_queue(
    nodes: Any, limit: Callable[..., int]
) -> None:
    assert limit("PENDING", "PENDING") == 4
    request(nodes)
    assert limit("PENDING", "PENDING") == 2
    assert limit("RUNNING", "PENDING", "CONFIGURING", "COMPLETING") == 3


def test_request_that_is_held_after_a_refusal_costs_no_job(nodes: Any, limit: Callable[..., int]) -> None:
    """Ray counts it too, and would take back a job that is pending for it."""
    limit("PENDING", "PENDING")
    request(nodes)
    held = threading.Thread(target=request, args=(nodes,))
    held.start()
    time.sleep(0.5)
    assert limit("PENDING", "PENDING") == 3
    held.join()
    assert limit("PENDING", "PENDING") == 2


def test_only_what_is_pending_is_taken_back_from_a_type_that_was_given_up(
    nodes: Any, limit: Callable[..., int]
) -> None:
    nodes._pending_timeout_s = 0.0
    limit("PENDING")
    assert limit("PENDING", "RUNNING", "CONFIGURING", "SIGNALING", "COMPLETING") == 3


def test_full_disk_keeps_the_limits_and_the_autoscaler(
    nodes: Any, limit: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit("PENDING")
    request(nodes)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_private", full)
        assert limit("PENDING") == 4
    assert limit("PENDING") == 1, "written when there is room again"


def full(*arguments: Any) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
