"""The status screen of a cluster."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.config import ClusterConfig
from cluster.event_log import Entry
from cluster.head.programs import Program
from cluster.login.status import Snapshot, find_home, screen, to_json
from cluster.rendezvous import Head
from cluster.slurm import QueuedJob
from cluster.slurm.job_registry import RegisteredJob

NOW = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, 0))


def registered(
    job_id: str, kind: str, state: str, node: str = "", left: float | None = None, **more: Any
) -> RegisteredJob:
    job = QueuedJob(job_id, state, more.get("reason", "None"), left, node, more.get("start", "N/A"), None, "")
    return RegisteredJob(job, "a1", kind, "-")


def snapshot(folder: Path, **changed: Any) -> Snapshot:
    types = {"gpu": {"max": 4, "partition": "gpu", "gpus": 2}, "cpu": {"max": 8, "min": 1}}
    program = folder / "one" / "programs" / "1"
    program.mkdir(parents=True)
    (program / "request.json").write_text(json.dumps({"command": ["emixer", "train", "--config", "run.yaml"]}))
    (program / "state.json").write_text(json.dumps({"state": "running", "at": NOW - 600}))
    content: dict[str, Any] = {
        "config": ClusterConfig.model_validate({"name": "one", "folder": str(folder), "node_types": types}),
        "head": Head("10.0.0.1:6379", folder / "token", "a1"),
        "jobs": (
            registered("10", "head", "RUNNING", "n1", 7 * 3600 + 300), registered("11", "cleanup", "PENDING"),
            registered("12", "gpu", "RUNNING", "n2", 185), registered("13", "gpu", "RUNNING", "n3", 3600),
            registered("14", "gpu", "PENDING", reason="Priority", start="2026-03-01T14:30:00"),
            registered("15", "cpu", "RUNNING", "n4", None), registered("16", "cpu", "COMPLETING", "n5", 10),
        ),
        "joined": {"head": "idle", "12": "draining", "13": "busy"},
        "kept": {"12": "nothing runs", "13": "nothing runs: kept by results of 1.0 MB that a program still holds"},
        "demands": (("{CPU: 1, GPU: 1}", 3),),
        "programs": (Program(program),),
        "lately": (Entry(NOW - 30, "refused", "gpu", "Invalid account"), Entry(NOW, "head up", "", "10.0.0.1:6379")),
        "at": NOW,
    }  # fmt: skip
    return Snapshot(**{**content, **changed})


def test_screen_shows_what_runs_what_waits_and_why(tmp_path: Path) -> None:
    assert (
        screen(snapshot(tmp_path))
        == f"""\
Cluster one is up at 10.0.0.1:6379 (job 10 on n1, 7 h 05 min left)

type  busy  idle  starting  pending  draining  leaving  allowed  partition
gpu   1     -     -         1        1         -        0 to 4   gpu
cpu   -     -     1         -        -         1        1 to 8   (default)

job  type  state     node
12   gpu   draining  n2    3:05 min left
13   gpu   busy      n3    1 h 00 min left; nothing runs: kept by results of 1.0 MB that a program still holds
14   gpu   pending   -     other jobs come first (Priority); expected 2026-03-01 14:30:00
15   cpu   starting  n4
16   cpu   leaving   n5    0:10 min left

Waiting for resources: 3 x {{CPU: 1, GPU: 1}}

program  state           command                         log
1        running 10 min  emixer train --config run.yaml  {tmp_path}/one/programs/1/log

Recent events
  11:59:30  refused gpu: Invalid account
  12:00:00  head up: 10.0.0.1:6379""".replace(
            "command                          log", "command                         log"
        )
    )


def test_screen_of_a_cluster_that_is_down_starting_or_silent(tmp_path: Path) -> None:
    down = screen(snapshot(tmp_path / "a", head=None, jobs=()))
    assert down.startswith("Cluster one is down. `python -m cluster up` starts it.")
    pending = (registered("10", "head", "PENDING", reason="QOSMaxJobsPerUserLimit"),)
    assert "its head, job 10, is pending: you have reached your limit in this QOS" in screen(
        snapshot(tmp_path / "b", head=None, jobs=pending)
    )
    ending = (registered("10", "head", "COMPLETING", "n1"),)
    assert "its head, job 10 on n1, is ending" in screen(snapshot(tmp_path / "d", head=None, jobs=ending))
    again = (*ending, registered("17", "head", "PENDING", reason="Priority"))
    assert "its head, job 17, is pending" in screen(snapshot(tmp_path / "e", head=None, jobs=again))
    silent = screen(snapshot(tmp_path / "c", demands=None, joined={}))
    assert "Ray does not answer from here" in silent
    assert "13   gpu   running" in silent


def test_json_has_the_same_content(tmp_path: Path) -> None:
    shown = json.loads(json.dumps(to_json(snapshot(tmp_path))))
    assert shown["address"] == "10.0.0.1:6379"
    assert {job["job"]: job["state"] for job in shown["jobs"]}["14"] == "pending"
    assert shown["demands"] == [{"shape": "{CPU: 1, GPU: 1}", "count": 3}]


def test_cluster_is_found_by_any_path_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "shared" / "one"
    home.mkdir(parents=True)
    (home / "cluster.json").write_text(json.dumps({"folder": str(tmp_path / "shared"), "name": "one"}))
    (tmp_path / "alias").symlink_to(tmp_path / "shared")
    monkeypatch.chdir(tmp_path)
    for named in ("shared", "./shared/../shared", "alias", str(tmp_path / "alias")):
        assert find_home(Path(named), None) == home
        assert find_home(Path(named), "one") == home


def test_screen_of_many_nodes_shows_the_noteworthy_ones(tmp_path: Path) -> None:
    jobs = [registered(str(100 + n), "gpu", "RUNNING", f"n{n}", 3600) for n in range(200)]
    jobs += [registered("400", "gpu", "PENDING", reason="Resources")]
    shown = screen(snapshot(tmp_path, jobs=tuple(jobs), joined={job.job.job_id: "busy" for job in jobs}))
    lines = shown.split("job  type")[1].split("\n\n")[0].splitlines()
    assert len(lines) == 22, "a header, twenty nodes, and how many more"
    assert lines[1].startswith("400  gpu   pending")
    assert lines[-1] == "(181 more: --json)"
