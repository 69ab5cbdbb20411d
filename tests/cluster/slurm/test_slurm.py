"""Parsing the output of SLURM's commands; the environment a job gets; which jobs belong to a cluster."""

import pytest

from cluster.slurm import QueuedJob, duration_s, environment_of_user, moment
from cluster.slurm.job_registry import comment, registered_jobs


@pytest.mark.parametrize(
    ("shown", "seconds"),
    [("1-02:03:04", 93784), ("02:03:04", 7384), ("3:04", 184), ("04", 4), ("0:00", 0), ("UNLIMITED", None),
     ("INVALID", None), ("", None), ("2-00:00:00", 172800)],
)  # fmt: skip
def test_durations(shown: str, seconds: float | None) -> None:
    assert duration_s(shown) == seconds


def test_job_submitted_inside_a_job_inherits_no_options_and_no_token() -> None:
    users = {"PATH": "/bin", "SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "big", "RAY_DEDUP_LOGS": "0"}
    ours = {"RAY_AUTH_TOKEN_PATH": "/t", "RAY_ADDRESS": "a:1", "RAY_ON_SLURM": "x", "SQUEUE_PARTITION": "gpu"}
    login = {"SBATCH_ACCOUNT": "chest"}
    assert environment_of_user(users | ours | login) == users | login
    of_job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}
    assert environment_of_user(users | ours | login | of_job) == users


def test_end_time_of_a_job_is_parsed() -> None:
    later = moment("2026-03-01T14:30:05")
    assert later is not None
    assert later - (moment("2026-03-01T14:30:00") or 0) == 5
    assert moment("N/A") is None


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
