"""Parsing the output of SLURM's commands; the environment a job gets; which jobs belong to a cluster."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.slurm import (
    QueuedJob,
    accounted,
    duration_s,
    environment_of_user,
    mark,
    memory_mb,
    moment,
    my_jobs,
    seconds_left,
    submit,
)
from cluster.slurm.job_registry import comment, registered_jobs


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [("1-02:03:04", 93784), ("02:03:04", 7384), ("3:04", 184), ("04", 4), ("0:00", 0), ("UNLIMITED", None),
     ("INVALID", None), ("", None), ("2-00:00:00", 172800)],
)  # fmt: skip
def test_durations(shown: str, seconds: float | None) -> None:
    assert duration_s(shown) == seconds


def test_job_submitted_inside_a_job_inherits_who_pays_but_neither_its_size_nor_its_token() -> None:
    users = {"PATH": "/bin", "SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "big", "RAY_DEDUP_LOGS": "0"}
    ours = {
        "RAY_AUTH_TOKEN_PATH": "/t", "RAY_ADDRESS": "a:1", "RAY_ON_SLURM": "x", "SQUEUE_PARTITION": "gpu",
        "SLURM_TIME_FORMAT": "relative", "SBATCH_CLUSTERS": "serial",
    }  # fmt: skip
    pays = {
        "SBATCH_ACCOUNT": "chest", "SBATCH_PARTITION": "gpu", "SBATCH_QOS": "long", "SBATCH_CONSTRAINT": "a100",
        "SBATCH_RESERVATION": "night", "SBATCH_WCKEY": "x",
    }  # fmt: skip
    login = {"SBATCH_TIMELIMIT": "10"}
    assert environment_of_user(users | ours | pays | login) == users | pays | login
    of_job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_ACCOUNT": "chest", "SBATCH_MEM_BIND": "none"}
    assert environment_of_user(users | ours | pays | login | of_job) == users | pays


def test_worker_asked_for_by_a_head_in_a_job_is_paid_by_the_users_account(
    command: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    of_head = {"SLURM_JOB_ID": "7", "SLURM_JOB_QOS": "x", "SBATCH_QOS": "long", "SBATCH_EXCLUSIVE": "1"}
    for name, value in of_head.items():
        monkeypatch.setenv(name, value)
    command("sbatch", f'echo "$SBATCH_QOS,$SBATCH_EXCLUSIVE,$SLURM_JOB_QOS" > {tmp_path}/seen; echo 8')
    assert submit("#!/bin/sh", []) == "8"
    assert (tmp_path / "seen").read_text() == "long,,\n"


def test_jobs_of_one_number_in_two_slurms_have_different_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What carries the mark of an ended job is killed; job 1 of the other one, on the same machine, is not its."""
    marks = []
    for name in ("alpha", "beta"):
        monkeypatch.setenv("SLURM_CLUSTER_NAME", name)
        marks.append(mark("1-0", "0"))
    assert marks[0] != marks[1]


def test_end_time_of_a_job_is_parsed() -> None:
    later = moment("2026-03-01T14:30:05")
    assert later is not None
    assert later - (moment("2026-03-01T14:30:00") or 0) == 5
    assert moment("N/A") is None


def test_times_of_a_job_are_the_same_in_every_time_zone(
    command: Callable[[str, str], None], berlin: None
) -> None:  # fmt: skip
    """02:30 in summer time, half an hour before the clocks are set back, and an hour later."""
    summer, winter = 1792888200, 1792891800
    times = " ".join(f"$(date -d @{at} +%FT%T)" for at in (summer, winter))
    command("squeue", f'set -- {times}; echo "7|RUNNING|None|1:00|n1|$1|$2|x"; echo "8|RUNNING|None|1:00|n1|$2|$1|x"')
    assert [(job.ends, job.start) for job in my_jobs()] == [
        (winter, "2026-10-25T02:30:00"), (summer, "2026-10-25T02:30:00"),
    ]  # fmt: skip
    command("squeue", f"date -d @{summer} +%FT%T")
    left = seconds_left("7")
    assert left is not None
    assert abs(left - (summer - time.time())) < 60


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_submission_keeps_the_users_time_zone(
    command: Callable[[str, str], None], berlin: None, tmp_path: Path
) -> None:  # fmt: skip
    """sbatch reads times, e.g. of --begin."""
    command("sbatch", f"echo $TZ > {tmp_path}/zone; echo 8")
    submit("#!/bin/sh", [])
    assert (tmp_path / "zone").read_text() == "Europe/Berlin\n"


def test_elements_of_an_array_are_found_in_the_one_line_that_accounts_give_to_several(
    command: Callable[[str, str], None],
) -> None:
    lines = [
        "7_[1,3-5%2]|CANCELLED by 1000",
        "7_0|COMPLETED",
        "8_[0-6:3]|CANCELLED",
        "9_[1-2,...]|CANCELLED",
        "10|RUNNING",
    ]
    command("sacct", "\n".join(f"echo '{line}'" for line in lines))
    asked = ["7_0", "7_1", "7_2", "7_3", "7_5", "8_1", "8_3", "8_6", "9_2", "10", "11"]
    assert accounted(asked) == {
        "7_0": "COMPLETED",
        **dict.fromkeys(("7_1", "7_3", "7_5", "8_3", "8_6", "9_2"), "CANCELLED"),
    }


@pytest.mark.parametrize(
    ("tres", "megabytes"),
    [("cpu=4,mem=8G,node=2,billing=4", 4096), ("cpu=4,mem=1.50G,node=1", 1536), ("mem=512000K,node=1", 500),
     ("cpu=4,node=1", None), ("", None)],
)  # fmt: skip
def test_memory_of_a_job_is_that_on_each_of_its_nodes(
    tres: str, megabytes: int | None, command: Callable[[str, str], None]
) -> None:
    command("scontrol", f"echo 'JobId=7 ReqTRES=cpu=1,mem=99G,node=1 AllocTRES={tres} MinMemoryNode=0'")
    assert memory_mb("7") == megabytes


def test_comment_in_another_encoding_hides_no_job(command: Callable[[str, str], None]) -> None:
    command("squeue", r"printf '7|RUNNING|None|1:00|n1|N/A|N/A|caf\351\n8|PENDING|None|1:00||N/A|N/A|emixer:train\n'")
    assert [(job.job_id, job.comment) for job in my_jobs()] == [
        ("7", "caf\N{REPLACEMENT CHARACTER}"),
        ("8", "emixer:train"),
    ]


def test_jobs_in_hidden_partitions_are_listed(command: Callable[[str, str], None]) -> None:
    command("squeue", 'case " $* " in *" --all "*) echo "7|RUNNING|None|1:00|n1|N/A|N/A|emixer:train";; esac')
    assert [job.job_id for job in my_jobs()] == ["7"]


def job(job_id: str, text: str) -> QueuedJob:
    return QueuedJob(job_id, "RUNNING", "None", None, "n1", "N/A", None, text)


def test_only_jobs_with_the_clusters_comment_belong_to_it() -> None:
    jobs = [
        job("1", comment("one", "a1", "head")), job("2", comment("one", "a1", "cpu", "r1")),
        job("3", comment("one", "a0", "cpu", "r0")), job("4", comment("other", "a1", "cpu", "r2")),
        job("5", "emixer:train"), job("6", "(null)"), job("7", "ray:one"),
    ]  # fmt: skip
    assert [m.job.job_id for m in registered_jobs(jobs, "one")] == ["1", "2", "3"]
    assert [(m.job.job_id, m.kind, m.is_worker) for m in registered_jobs(jobs, "one", "a1")] == [
        ("1", "head", False), ("2", "cpu", True),
    ]  # fmt: skip
