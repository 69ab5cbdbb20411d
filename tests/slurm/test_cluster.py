"""`python -m cluster` on a real SLURM: scaling up and down, surviving node failures, and cleaning up."""

import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from emixer.checkpoint import find_checkpoint
from emixer.config import Config, load_config, to_yaml, with_overrides
from emixer.run_folder import RunFolder
from emixer.stages import generate

from .conftest import Cluster, failing_starts, hanging_starts, python_of_others, testbed

pytestmark = pytest.mark.slurm

TASKS = """
import collections, sys, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1, max_retries=5)
def work(index, seconds):
    time.sleep(seconds)
    return index, ray.get_runtime_context().get_node_id()
done = ray.get([work.remote(index, float(sys.argv[2])) for index in range(int(sys.argv[1]))])
assert [index for index, _ in done] == list(range(int(sys.argv[1])))
print(len(done), "tasks on", len({node for _, node in done}), "nodes")
"""

TURNS = """
import time, ray
ray.init(log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1, max_retries=0)
def work(seconds):
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()
for count, seconds in ((2, 10), (4, 2)):
    print("turn", *ray.get([work.remote(seconds) for _ in range(count)]), flush=True)
"""
"""Fills one node of two CPUs, then as many as there are; losing a task is an error."""


def tasks(count: int, seconds: float) -> list[str]:
    return [sys.executable, "-c", TASKS, str(count), str(seconds)]


@pytest.mark.slurm_core
def test_generate_scales_to_three_nodes_and_back_and_matches_a_local_run(
    ray_cluster: None, make_cluster: Callable[..., Any], tiny_run: Path, tmp_path: Path
) -> None:
    cluster = make_cluster().up()
    assert cluster.workers() == []
    command = [
        sys.executable, "-m", "emixer", "generate", "--run", str(tiny_run), "--num", "3000", "--out",
        str(tmp_path / "pairs"), "--set", "generate.rows_per_file=1536",
    ]  # fmt: skip
    number = cluster.start(*command)
    most = 0

    def ended() -> bool:
        nonlocal most
        status = cluster.status()
        most = max(most, sum(job["state"] in ("busy", "idle") for job in status["jobs"]))
        return bool(status["programs"][0]["state"] == "ended")

    cluster.bed.wait_for(ended, 180, "the end of generate")
    assert cluster.program_state(number)["code"] == 0, Path(cluster.program_state(number)["log"]).read_text()
    cluster.bed.wait_for(lambda: not cluster.workers(), 30, "the end of idle nodes")
    assert most == 3
    assert len(cluster.events("asked")) == len(cluster.events("left")) == 3
    local = {
        "generate.run": tiny_run, "generate.num": 3000, "generate.out": tmp_path / "local",
        "generate.rows_per_file": 1536,
    }  # fmt: skip
    generate.run(with_overrides(load_config([]), local))
    assert pq.read_table(tmp_path / "pairs" / "data") == pq.read_table(tmp_path / "local" / "data")
    cluster.command("down")
    cluster.assert_nothing_left()


def test_tasks_survive_a_killed_node_and_a_drained_node(
    make_cluster: Callable[..., Any],
) -> None:
    cluster = make_cluster().up()
    number = cluster.start(*tasks(40, 1.5))
    cluster.bed.wait_for(lambda: len([w for w in cluster.workers() if w["state"] == "busy"]) == 3, 60, "three nodes")
    before = cluster.workers()
    first, second, _ = before
    cluster.bed.kill(f"SLURM_JOB_ID={first['job']}\0")
    cluster.bed.run(["scontrol", "update", f"nodename={second['node']}", "state=drain", "reason=test"])
    try:
        cluster.bed.run(["scancel", second["job"]])
        cluster.bed.wait_for(lambda: cluster.program_state(number)["state"] == "ended", 120, "the end of all tasks")
        new = [worker["node"] for worker in cluster.workers() if worker["job"] not in [old["job"] for old in before]]
        assert second["node"] not in new
    finally:
        cluster.bed.run(["scontrol", "update", f"nodename={second['node']}", "state=resume"])
    log = Path(cluster.program_state(number)["log"]).read_text()
    assert cluster.program_state(number)["code"] == 0, log
    assert "40 tasks on" in log
    assert len(cluster.events("asked")) > 3, "what was lost was asked for again"


@pytest.mark.slurm_core
def test_pending_job_shows_its_reason_and_yields_to_another_node_type(make_cluster: Callable[..., Any]) -> None:
    types = {
        "best": {"cpus": 2, "memory_gb": 1.5, "max": 2, "priority": 1, "extra": ["--nodelist=n4"]},
        "rest": {"cpus": 2, "memory_gb": 1.5, "max": 2, "extra": ["--nodelist=n3"]},
    }
    cluster = make_cluster(node_types=types, pending_timeout_s=15)
    cluster.bed.run(["scontrol", "update", "nodename=n3,n4", "state=drain", "reason=test"])
    try:
        cluster.up()
        number = cluster.start(*tasks(2, 0.5))

        def reason_is_shown() -> bool:
            screen = cluster.command("status").stdout
            return "pending" in screen and "the nodes it needs are down, drained or reserved" in screen

        cluster.bed.wait_for(reason_is_shown, 30, "a reason")
        cluster.bed.run(["scontrol", "update", "nodename=n3", "state=resume"])
        cluster.bed.wait_for(lambda: cluster.program_state(number)["state"] == "ended", 60, "work on the other type")
        assert cluster.program_state(number)["code"] == 0
        assert [e["node_type"] for e in cluster.events("asked")] == ["best", "rest"]
        assert "best" not in [worker["kind"] for worker in cluster.workers()], "what pended was withdrawn"
    finally:
        cluster.bed.run(["scontrol", "update", "nodename=n3,n4", "state=resume"], check=False)


def test_pending_job_is_kept_if_no_other_node_type_fits(make_cluster: Callable[..., Any]) -> None:
    types = {
        "rare": {"cpus": 1, "memory_gb": 1, "max": 1, "resources": {"rare": 1}, "extra": ["--hold"]},
        "plain": {"cpus": 1, "memory_gb": 1, "max": 1},
    }
    cluster = make_cluster(node_types=types, pending_timeout_s=10, idle_timeout_s=60).up()
    program = (
        "import ray; ray.init(logging_level='ERROR')\n"
        "print('done', ray.get(ray.remote(lambda: 7).options(resources={'rare': 1}).remote()))"
    )
    number = cluster.start(sys.executable, "-c", program)
    cluster.bed.wait_for(lambda: cluster.workers(), 30, "a job")
    (job,) = cluster.workers()
    time.sleep(20)
    assert [worker["job"] for worker in cluster.workers()] == [job["job"]], "older than pending_timeout_s"
    cluster.bed.run(["scontrol", "release", job["job"]])
    cluster.bed.wait_for(lambda: cluster.program_state(number)["state"] == "ended", 60, "the end of the task")
    assert cluster.program_state(number)["code"] == 0
    assert cluster.events("gave up") == []


def test_sbatch_refusal_is_quoted_and_retried_with_backoff(
    make_cluster: Callable[..., Any],
) -> None:
    types = {"cpu": {"cpus": 2, "memory_gb": 1.5, "max": 2, "partition": "nosuch"}}
    cluster = make_cluster(node_types=types).up()
    number = cluster.start(*tasks(2, 0.1))
    cluster.bed.wait_for(lambda: len(cluster.events("refused")) >= 2, 60, "a second try")
    first, second = cluster.events("refused")[:2]
    assert first["detail"] == "invalid partition specified: nosuch; Invalid partition name specified"
    assert second["at"] - first["at"] >= 5
    screen = cluster.command("status").stdout
    assert "refused cpu" in screen
    assert "invalid partition" in screen
    assert "Waiting for resources: 2 x {CPU: 1}" in screen
    assert cluster.program_state(number)["state"] == "running"
    assert cluster.workers() == []


def test_replacement_is_requested_before_a_node_reaches_its_time_limit(make_cluster: Callable[..., Any]) -> None:
    types = {"cpu": {"cpus": 2, "memory_gb": 1.5, "max": 2, "time_min": 2}}
    cluster = make_cluster(node_types=types, idle_timeout_s=60).up()
    number = cluster.start(sys.executable, "-c", TURNS.replace("((2, 10), (4, 2))", "((2, 10),) * 14"))
    cluster.bed.wait_for(lambda: cluster.events("draining"), 150, "the warning of SLURM")
    cluster.bed.wait_for(lambda: len(cluster.events("asked")) == 2, 20, "a replacement")
    first = cluster.events("asked")[0]["detail"]
    assert cluster.events("asked")[1]["detail"].endswith(f"for-{first.split()[1]}"), "not by demand"
    states = {w["job"]: w["state"] for w in cluster.workers()}
    assert f"job {first.split()[1]}" in cluster.events("draining")[0]["detail"]
    assert first.split()[1] in states, "the old node is still there when the new one is asked for"
    cluster.bed.wait_for(lambda: cluster.program_state(number)["state"] == "ended", 120, "the end of all tasks")
    log = Path(cluster.program_state(number)["log"]).read_text()
    assert cluster.program_state(number)["code"] == 0, f"no task may be lost\n{log}"
    turns = [set(line.split()[1:]) for line in log.splitlines() if line.startswith("turn ")]
    assert len(turns) == 14
    assert not turns[0] & turns[-1], "the last turns ran on the replacement"


@pytest.mark.slurm_core
def test_preempted_node_takes_no_new_work_and_is_replaced_early(make_cluster: Callable[..., Any], bed: Any) -> None:
    head = {"cpus": 1, "memory_gb": 1, "time_min": 60, "extra": ["--nodelist=n1"]}
    types = {"cpu": {"cpus": 2, "memory_gb": 1.5, "time_min": 30, "max": 2, "extra": ["--exclude=n1"]}}
    cluster = make_cluster(head=head, node_types=types, idle_timeout_s=60).up()
    number = cluster.start(sys.executable, "-c", TURNS)
    bed.wait_for(lambda: [w["state"] for w in cluster.workers()] == ["busy"], 60, "a node at work")
    (victim,) = cluster.workers()
    ends = ["squeue", "-h", "-j", victim["job"], "-o", "%e"]
    end = bed.run(ends).stdout
    whole_node = ["-p", "high", "-w", victim["node"], "-N", "1", "-n", "4", "-o", "/dev/null", "--wrap", "sleep 60"]
    bed.run(["sbatch", *whole_node])
    bed.wait_for(lambda: len(cluster.events("asked")) == 2, 15, "a replacement")
    assert bed.state_of(victim["job"]) == "RUNNING", "its grace time lasts"
    assert bed.run(ends).stdout < end, "SLURM has moved its end"
    bed.wait_for(lambda: cluster.events("draining"), 15, "the node being drained")
    (noted,) = cluster.events("draining")
    assert noted["detail"].startswith(f"job {victim['job']}, preempted, ")
    assert cluster.events("asked")[1]["detail"].endswith(f"for-{victim['job']}"), (
        "not by demand, which there is none of"
    )
    bed.wait_for(lambda: cluster.program_state(number)["state"] == "ended", 60, "the end of both turns")
    log = Path(cluster.program_state(number)["log"]).read_text()
    assert cluster.program_state(number)["code"] == 0, f"no task may be lost\n{log}"
    first, second = (set(line.split()[1:]) for line in log.splitlines() if line.startswith("turn "))
    assert len(first) == 1
    assert not first & second, f"new work went to a node that leaves\n{log}"


@pytest.mark.slurm_core
def test_no_job_is_left_when_the_head_is_killed(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster().up()
    cluster.start(*tasks(20, 5))
    cluster.bed.wait_for(lambda: len([w for w in cluster.workers() if w["state"] == "busy"]) == 3, 60, "three nodes")
    (head,) = [job for job in cluster.status()["jobs"] if job["kind"] == "head"]
    cluster.bed.kill("cluster.head")
    cluster.bed.wait_for(lambda: cluster.queued() == [], 30, "the end of all jobs")
    cluster.assert_nothing_left()
    assert "is down" in cluster.command("status").stdout
    assert cluster.bed.state_of(head["job"]) == "FAILED"


SAVES = """
import pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""


def terminate_shell(bed: Any, job: str) -> None:
    """Send SIGTERM to the shell of a batch script alone, as SLURM does where it has cgroups."""
    (shell,) = [
        pid for pid, command in bed.processes_of("slurm_script", f"SLURM_JOB_ID={job}\0").items()
        if command.startswith("/bin/bash")
    ]  # fmt: skip
    os.kill(shell, signal.SIGTERM)


@pytest.mark.parametrize("by", ["the shell alone, as with cgroups", "scancel"])
def test_head_that_slurm_ends_lets_programs_save_and_cleans_up(
    by: str, make_cluster: Callable[..., Any], bed: Any, tmp_path: Path
) -> None:
    types = {"cpu": {"cpus": 2, "memory_gb": 1.5, "time_min": 30, "min": 1, "max": 1}}
    cluster = make_cluster(node_types=types).up()
    number = cluster.start(sys.executable, "-c", SAVES, str(tmp_path / "saved"))
    bed.wait_for(lambda: cluster.workers() and cluster.workers()[0]["state"] == "idle", 60, "a node")
    log = Path(cluster.program_state(number)["log"])
    bed.wait_for(lambda: log.exists() and "ready" in log.read_text(), 30, "the program at work")
    (head,) = [job["job"] for job in cluster.status()["jobs"] if job["kind"] == "head"]
    if by == "scancel":  # reaches every process of the job on this bed, the head twice
        bed.run(["scancel", head])
    else:
        terminate_shell(bed, head)
    bed.wait_for(lambda: cluster.queued() == [], 30, "the end of all jobs")
    assert (tmp_path / "saved").exists()
    assert cluster.events("head down")
    assert cluster.program_state(number)["code"] == 0
    assert not (cluster.home / "head.json").exists()
    assert not list(cluster.home.glob("token-*"))
    assert "jobs cancelled." in next((cluster.home / "logs").glob("*-head.out")).read_text(), "by the shell, at the end"
    assert bed.state_of(head) == ("CANCELLED" if by == "scancel" else "COMPLETED")
    cluster.assert_nothing_left()


@pytest.mark.slurm_core
def test_status_says_what_keeps_an_idle_node(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(idle_timeout_s=60).up()
    program = (
        "import ray, time; ray.init(logging_level='ERROR')\nheld = [{}]\nray.wait(held, timeout=60); time.sleep(600)"
    )
    result = "ray.remote(num_cpus=1)(lambda: bytes(2**20)).remote()"
    actor = "(a := ray.remote(type('A', (), {'f': lambda self: 1})).remote()).f.remote()"
    for held, words in (
        (result, "kept by results of 1.0 MB that a program still holds"),
        (actor, "kept by an actor that asks for no CPU"),
    ):
        number = cluster.start(sys.executable, "-c", program.replace("{}", held))
        cluster.bed.wait_for(lambda w=words: w in " ".join(j["note"] for j in cluster.workers()), 60, words)
        assert [job["state"] for job in cluster.workers()] == ["busy"]
        assert words in cluster.command("status").stdout
        cluster.bed.kill("-c", f"held = [{held}]")
        cluster.bed.wait_for(lambda n=number: cluster.program_state(n)["state"] == "ended", 30, "its end")
        cluster.bed.wait_for(lambda: [job["state"] for job in cluster.workers()] == ["idle"], 30, "an idle node")
        assert words not in cluster.command("status").stdout


def test_no_job_is_left_when_the_head_node_fails(
    make_cluster: Callable[..., Any],
) -> None:
    head = {"cpus": 1, "memory_gb": 1, "time_min": 60, "extra": ["--nodelist=n1"]}
    types = {
        "cpu": {"cpus": 2, "memory_gb": 1.5, "max": 1, "extra": ["--nodelist=n2"]},
        "held": {"cpus": 4, "memory_gb": 1.5, "max": 1, "extra": ["--hold"]},
    }
    head["extra"] = ["--exclude=n3,n4"]  # n1 or n2, so that the cleanup job has a node left when one of them fails
    cluster = make_cluster(head=head, node_types=types).up()
    program = (
        "import ray, time; ray.init(logging_level='ERROR')\n"
        "work = ray.remote(lambda: time.sleep(300))\n"
        "ray.get([work.options(num_cpus=2).remote(), work.options(num_cpus=4).remote()])"
    )
    cluster.start(sys.executable, "-c", program)
    cluster.bed.wait_for(
        lambda: sorted(w["state"] for w in cluster.workers()) == ["busy", "pending"], 60, "one running, one pending"
    )
    cluster.bed.fail_node("n1")
    try:
        cluster.bed.wait_for(lambda: cluster.queued() == [], 60, "the end of all jobs")
        cluster.bed.wait_for(lambda: not cluster.bed.processes_of("RAY_ON_SLURM="), 10, "the end of Ray's processes")
    finally:
        cluster.bed.restore_node("n1")


def test_max_nodes_is_never_exceeded_under_ten_times_the_demand(make_cluster: Callable[..., Any]) -> None:
    types = {"cpu": {"cpus": 1, "memory_gb": 1, "max": 4}}
    cluster = make_cluster(node_types=types).up()
    number = cluster.start(*tasks(40, 0.8))
    seen = []

    def ended() -> bool:
        seen.append(len([j for j in cluster.queued() if j]) - 2)  # without the head and cleanup jobs
        return bool(cluster.program_state(number)["state"] == "ended")

    cluster.bed.wait_for(ended, 120, "the end of all tasks")
    assert cluster.program_state(number)["code"] == 0
    assert max(seen) == 4


@pytest.mark.slurm_core
def test_clusters_of_two_users_are_isolated(make_cluster: Callable[..., Any], bed: Any) -> None:
    python = python_of_others()
    mine, other = make_cluster("mine").up(), make_cluster("other", user="daemon", python=python).up()
    six = ["-c", TASKS, "6", "2"]
    both = [(mine, mine.start(sys.executable, *six)), (other, other.start(python, *six))]
    for cluster, number in both:
        bed.wait_for(lambda c=cluster, n=number: c.program_state(n)["state"] == "ended", 90, "the end of its tasks")
        assert cluster.program_state(number)["code"] == 0
    assert other.run_python("import os; print('uid', os.getuid())").stdout.split()[1] == "1"
    few = "import os; os.environ['RAY_NUM_REDIS_GET_RETRIES'] = '5'"  # times to ask a head that does not answer
    connect = f"{few}; import ray; ray.init({mine.status()['address']!r}, logging_level='ERROR'); print('let in')"
    refused = other.run_python(connect, check=False)  # with its own token
    assert refused.returncode != 0
    assert "let in" not in refused.stdout
    assert "let in" in mine.run_python(connect).stdout
    theirs = connect.replace(mine.status()["address"], other.status()["address"])
    assert "let in" not in mine.run_python(theirs, check=False).stdout
    assert "let in" in other.run_python(theirs).stdout
    (token,) = mine.home.glob("token-*")
    for private in (token, mine.home / "head.json", mine.home / "programs" / "1" / "request.json"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert bed.run(["cat", str(private)], check=False, user="daemon").returncode != 0
    assert stat.S_IMODE(mine.home.stat().st_mode) == 0o700


def test_gpus_are_assigned_as_slurm_allocates_them(make_cluster: Callable[..., Any]) -> None:
    types = {"gpu": {"cpus": 2, "gpus": 2, "memory_gb": 1.5, "max": 1}}
    cluster = make_cluster(node_types=types).up()
    program = (
        "import os, ray; ray.init(log_to_driver=False, logging_level='ERROR')\n"
        "see = ray.remote(num_gpus=1)(lambda: __import__('time').sleep(1) or os.environ['CUDA_VISIBLE_DEVICES'])\n"
        "print('devices', sorted(ray.get([see.remote(), see.remote()])))"
    )
    assert "devices ['0', '1']" in cluster.run_python(program).stdout


@pytest.mark.slurm_core
def test_submit_returns_the_output_and_exit_code_of_a_program(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster().up()
    failed = cluster.run_python("import os; print('here', os.getcwd()); raise SystemExit(3)", check=False)
    assert failed.returncode == 3
    assert f"here {cluster.folder}" in failed.stdout
    missing = cluster.command("submit", "--", "no-such-program", check=False)
    assert missing.returncode == 127
    assert "no-such-program: No such file or directory" in missing.stdout
    again = cluster.command("up", "--config", str(cluster.config_file), check=False)
    assert again.returncode == 2
    assert "is up or starting" in again.stderr
    cluster.command("down")
    cluster.assert_nothing_left()
    late = cluster.run_python("print(1)", check=False)
    assert late.returncode == 2
    assert "is not up" in late.stderr


def test_interrupting_submit_ends_the_program(make_cluster: Callable[..., Any], bed: Any) -> None:
    cluster = make_cluster().up()
    with subprocess.Popen(
        [*bed.in_login, sys.executable, "-m", "cluster", "submit", "--folder", str(cluster.rays), "--",
         sys.executable, "-c", "import time; print('running', flush=True); time.sleep(600)"],
        env={**bed.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}, stdout=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as waiting:  # fmt: skip
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "running\n"
        os.killpg(waiting.pid, signal.SIGINT)
        assert waiting.wait(20) == 130
    bed.wait_for(lambda: cluster.program_state(1)["state"] == "ended", 10, "the end of the program")


def test_commands_from_another_slurm_with_the_same_home_are_refused(
    make_cluster: Callable[..., Any], bed: Any, tmp_path: Path
) -> None:
    cluster = make_cluster()
    cluster.command("up", "--config", str(cluster.config_file), "--no-wait")
    jobs = cluster.queued()
    with testbed.TestBed.start(nodes=1, isolated=False) as other:
        there = Cluster(other, tmp_path, cluster.name, "rays", {})
        for command in (["up", "--config", str(there.config_file)], ["status"], ["down"]):
            refused = there.command(*command, check=False)
            assert refused.returncode == 2
            assert f"on the SLURM cluster {bed.cluster_name}, but this is {other.cluster_name}" in refused.stderr
        assert cluster.queued() == jobs
        cluster.command("down")
        there.command("up", "--config", str(there.config_file), "--no-wait")
        assert len(there.queued()) == 1
        there.command("down")


def test_head_on_the_login_node_keeps_min_nodes_and_cleans_up(
    make_cluster: Callable[..., Any],
) -> None:
    types = {"cpu": {"cpus": 2, "memory_gb": 1.5, "time_min": 30, "min": 1, "max": 2}}
    cluster = make_cluster(head={"where": "here", "cpus": 1, "memory_gb": 1}, node_types=types).up()
    cluster.bed.wait_for(lambda: [w["state"] for w in cluster.workers()] == ["idle"], 60, "a node without work")
    assert "on this login node" in cluster.command("status").stdout
    assert "4 tasks on" in cluster.command("submit", "--", *tasks(4, 2)).stdout
    assert {job["kind"] for job in cluster.status()["jobs"]} == {"cpu"}, "no job for the head"
    cluster.command("down")
    cluster.assert_nothing_left()
    broken = cluster.command("up", "--config", str(cluster.config_file), "--set", "setup=[exit 3]", check=False)
    assert broken.returncode == 2
    assert "ended before it was up" in broken.stderr


def test_head_and_worker_are_started_again_where_ray_does_not_come_up(
    make_cluster: Callable[..., Any], tmp_path: Path
) -> None:
    cluster = make_cluster(node_types={"cpu": {"cpus": 2, "memory_gb": 1.5, "max": 1, "extra": ["--nodelist=n2"]}},
                           head={"cpus": 1, "memory_gb": 1, "time_min": 60, "extra": ["--nodelist=n1"]})  # fmt: skip
    cluster.command("up", "--config", str(cluster.config_file), environment=failing_starts(tmp_path, 1))
    assert "4 tasks on 1 nodes" in cluster.command("submit", "--", *tasks(4, 0.1)).stdout
    assert {path.name for path in tmp_path.glob("failed-*")} == {"failed-n1-0", "failed-n2-0"}
    assert len(cluster.events("asked")) == 1, "no second job: its node would have to queue again"
    assert "Starting it again" in next((cluster.home / "logs").glob("*-head.out")).read_text()
    cluster.command("down")
    cluster.assert_nothing_left()


def test_head_that_slurm_ends_while_ray_is_starting_leaves_nothing(
    make_cluster: Callable[..., Any], bed: Any, tmp_path: Path
) -> None:
    cluster = make_cluster()
    environment = hanging_starts(tmp_path)
    cluster.command("up", "--config", str(cluster.config_file), "--no-wait", environment=environment)
    (head,) = cluster.queued()
    bed.wait_for(lambda: bed.processes_of("ray.scripts.scripts", f"SLURM_JOB_ID={head}\0"), 60, "the start of Ray")
    terminate_shell(bed, head)
    bed.wait_for(lambda: bed.state_of(head) == "COMPLETED", 60, "the end of the head")
    assert not list(cluster.home.glob("token-*"))
    cluster.assert_nothing_left()


def test_folder_names_may_contain_blanks_and_quotes(make_cluster: Callable[..., Any]) -> None:
    cluster = make_cluster(rays="Dr. O'Neil's $HOME images").up()
    assert "4 tasks on" in cluster.command("submit", "--", *tasks(4, 0.1)).stdout
    cluster.command("down")
    cluster.assert_nothing_left()


def test_quick_start(make_cluster: Callable[..., Any], tmp_path: Path) -> None:
    """The commands of docs/cluster.md, on fewer images."""
    root = Path(__file__).parents[2]
    guide = (root / "docs" / "cluster.md").read_text().split("## Quick start")[1].split("```")[1].replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in guide.splitlines() if line.startswith("python -m cluster")]
    assert [command[3] for command in commands] == ["init", "up", "up", *["submit"] * 3, "status", "down"]
    fewer = {
        "phantom": ["--studies", "60"], "ingest": ["--min-token-count", "1"],
        "train": ["--images", "64", "--set", "data.window_rows=16", "--set", "validation.images=4"],
    }  # fmt: skip
    without_gpus = ["--set", "train.use_gpu=false"]  # this bed's GPUs are device files without hardware
    (tmp_path / "configs").symlink_to(root / "configs")
    user = make_cluster()
    shown = ""
    for _, _, _, name, *rest in commands:
        if name == "submit":
            stage = rest[2]
            rest = ["--", sys.executable, "-m", "emixer", *rest[2:], *fewer[stage]]
            if stage == "train":
                refused = user.as_documented(name, *rest, check=False)
                assert refused.returncode == 2, refused.stdout
                assert "sees none there" in " ".join(refused.stdout.split())
                rest += without_gpus
        done = user.as_documented(name, *rest, check=False)
        assert done.returncode == 0, (name, rest, done.stdout, done.stderr)
        shown += done.stdout
    for name in ("main", "high", "short"):
        assert f"--partition={name}" in shown
    assert "--gpus-per-node=2" in shown
    assert f"Trained on 64 images: {tmp_path}/runs/first" in shown
    assert "Cluster emixer is up at" in shown
    assert "Cluster emixer is down" in shown


def test_programs_save_before_the_head_reaches_its_time_limit(
    make_cluster: Callable[..., Any], tiny_config: Config, tmp_path: Path
) -> None:
    cluster = make_cluster(warn_s=130).up()
    never = {f"train.{what}_every_images": 10**9 for what in ("save", "validate", "sample")}
    settings = never | {
        "train.run": tmp_path / "run", "train.images": 10**6, "train.log_every_images": 64, "train.use_gpu": False,
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(to_yaml(with_overrides(tiny_config, settings)))
    number = cluster.start(sys.executable, "-m", "emixer", "train", "--config", str(tmp_path / "run.yaml"))
    cluster.bed.wait_for(lambda: RunFolder(tmp_path / "run").last_metrics(), 90, "the first lines")
    (head,) = [job["job"] for job in cluster.status()["jobs"] if job["kind"] == "head"]
    minutes = int(cluster.bed.run(["squeue", "-h", "-j", head, "-o", "%M"]).stdout.split(":")[-2])
    cluster.bed.run(["scontrol", "update", f"jobid={head}", f"timelimit={minutes + 2}"])
    cluster.bed.wait_for(lambda: cluster.queued() == [], 130, "the end of the cluster")
    log = Path(cluster.program_state(number)["log"]).read_text()
    found = find_checkpoint(tmp_path / "run" / "checkpoints", "last")
    assert found is not None, log
    assert f"checkpoint saved at {found.images:,} of 1,000,000 images" in " ".join(log.split())
    cluster.assert_nothing_left()


def test_training_resizes_with_the_cluster_and_resumes_from_checkpoints(
    make_cluster: Callable[..., Any], tiny_config: Config, tmp_path: Path
) -> None:
    types = {
        "first": {"cpus": 1, "memory_gb": 1.5, "max": 1, "extra": ["--nodelist=n1"]},
        "second": {"cpus": 1, "memory_gb": 1.5, "max": 1, "extra": ["--nodelist=n2"]},
    }
    cluster = make_cluster(node_types=types, idle_timeout_s=60)
    bed, run = cluster.bed, tmp_path / "run"
    settings = {
        "train.run": run, "train.num_workers": [1, 2], "train.resize_every_s": 5.0, "train.images": 100_000,
        "train.log_every_images": 32, "train.save_every_images": 640, "train.batch_size": 16,
        "train.validate_every_images": 10**6, "train.sample_every_images": 10**6, "train.use_gpu": False,
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(to_yaml(with_overrides(tiny_config, settings)))
    bed.run(["scontrol", "update", "nodename=n2", "state=drain", "reason=test"])
    try:
        cluster.up()
        command = [sys.executable, "-m", "emixer", "train", "--config", str(tmp_path / "run.yaml")]
        number = cluster.start(*command)
        bed.wait_for(lambda: workers_of_last(run) == 1, 90, "a checkpoint of one worker")
        bed.run(["scontrol", "update", "nodename=n2", "state=resume"])
        bed.wait_for(lambda: workers_of_last(run) == 2, 90, "a checkpoint of two workers")
        (second,) = [w["job"] for w in cluster.workers() if w["kind"] == "second"]
        bed.run(["scontrol", "update", "nodename=n2", "state=drain", "reason=test"])
        bed.run(["scancel", second])
        bed.wait_for(lambda: workers_of_last(run) == 1, 120, "a checkpoint of one worker again")
        assert cluster.program_state(number)["state"] == "running"
        seen = [line["images"] for line in RunFolder(run).metrics() if "images_per_s" in line]
        assert seen == sorted(set(seen)), "no image is counted twice"
    finally:
        bed.run(["scontrol", "update", "nodename=n2", "state=resume"])


def workers_of_last(run: Path) -> int:
    """Return the number of workers of the last checkpoint; 0 before the first."""
    found = find_checkpoint(run / "checkpoints", "last")
    return 0 if found is None else int(found.state["position"]["num_workers"])


def test_search_scales_the_cluster_with_its_trials_and_leaves_it_empty(
    make_cluster: Callable[..., Any], tiny_config: Config, tmp_path: Path
) -> None:
    settings = {
        "tune.study": tmp_path / "study", "tune.num_samples": 2, "tune.budget_images": 320, "tune.pruner": "none",
        "tune.metrics": ["word_cross_entropy"], "tune.space": ["loss.alpha float 0 1"], "train.cpus_per_worker": 2,
        "train.use_gpu": False, "train.validate_every_images": 320, "train.sample_every_images": 10**6,
    }  # fmt: skip
    (tmp_path / "tune.yaml").write_text(to_yaml(with_overrides(tiny_config, settings)))
    cluster = make_cluster().up()
    assert cluster.workers() == []
    number = cluster.start(sys.executable, "-m", "emixer", "tune", "--config", str(tmp_path / "tune.yaml"))
    cluster.bed.wait_for(lambda: cluster.program_state(number)["state"] == "ended", 300, "the end of the search")
    log = Path(cluster.program_state(number)["log"]).read_text()
    assert cluster.program_state(number)["code"] == 0, log
    assert "Searched with 2 trials (2 finished)" in log
    assert len(cluster.events("asked")) >= 2, "both trials at once, a node of two CPUs each"
    cluster.bed.wait_for(lambda: not cluster.workers(), 60, "the end of idle nodes")
    cluster.command("down")
    cluster.assert_nothing_left()
