"""What `python -m jobs status` makes of squeue, sacct and what stages record, with stand-ins for the commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.status import ALIVE, all_jobs, latest, statuses, table
from jobs.submit import Job

SHOWN = {
    "1": "PENDING|Priority|INVALID|||2026-03-01T12:00:00",
    "2": "RUNNING|None|2:30:00|n1|N/A|2026-03-01T12:00:00",
    "3": "COMPLETING|None|INVALID|n2|N/A|N/A",
    "4": "TIMEOUT|TimeLimit|INVALID||N/A|N/A",
    "5": "COMPLETED|None|INVALID||N/A|N/A",
    "12": "REQUEUE_HOLD|None|INVALID|||N/A",
    "13": "SIGNALING|None|0:10|n3|N/A|2026-03-01T12:00:00",
}
ACCOUNTS = ["7_[1,3-4%2]|CANCELLED by 1000", "8|OUT_OF_MEMORY", "9|RUNNING", "5|NODE_FAIL"]


def written(folder: Path, job_id: str, **said: str) -> Job:
    job = Job(job_id, "ingest", "slurm", str(folder / job_id), None, (), 1000.0)
    (folder / job_id).mkdir(parents=True)
    job.save()
    if said:
        (folder / "cluster" / job_id).mkdir(parents=True)
        (folder / "cluster" / job_id / "state.json").write_text(json.dumps(said))
    return job


def test_each_job_is_told_by_whoever_knows_most(tmp_path: Path, command: Callable[[str, str], None]) -> None:
    lines = "\n".join(f"echo '{job_id}|{words}|emixer:ingest'" for job_id, words in SHOWN.items())
    command("squeue", lines)
    command("sacct", f'echo "$@" > {tmp_path}/asked\n' + "\n".join(f"echo '{line}'" for line in ACCOUNTS))
    command("scontrol", "echo ClusterName = one")
    folder = tmp_path / "jobs"
    running = {"state": "running"}
    jobs = [
        written(folder, "1"), written(folder, "2", **running), written(folder, "3", state="finished", summary="all"),
        written(folder, "4", **running), written(folder, "5", state="failed", error="no images\nmore"),
        written(folder, "7_2"), written(folder, "7_3"), written(folder, "8", **running), written(folder, "9"),
        written(folder, "10"), written(folder, "11", state="finished", summary="100 images\nmore"),
        written(folder, "12", **running), written(folder, "13", **running),
    ]  # fmt: skip
    (folder / "10" / "cancelled").touch()
    found = {status.job.job_id: (status.state, status.note) for status in statuses(jobs)}
    assert found == {
        "1": ("pending", "other jobs come first (Priority)"), "2": ("running", "n1, 2 h left"),
        "3": ("completing", "n2"),
        "4": ("timeout", "reached its time limit slurm.max_requeues times: submit again to resume"),
        "5": ("failed", "no images"), "7_2": ("gone", "unknown to SLURM, and no record that it finished"),
        "7_3": ("cancelled", ""),
        "8": ("out_of_memory", "out of memory: raise slurm.memory_gb and submit again to resume"),
        "9": ("gone", "unknown to SLURM, and no record that it finished"), "10": ("cancelled", ""),
        "11": ("finished", "100 images"),
        "12": ("requeue_hold", "held after a requeue, as a node or a prolog failed: scontrol release 12, or cancel it"),
        "13": ("signaling", "n3, 10 s left"),
    }  # fmt: skip
    assert {"12", "13"} <= {job.job_id for job in jobs if found[job.job_id][0] in ALIVE}
    assert (tmp_path / "asked").read_text().split()[-2:] == ["-j", "7,8,9,10"], "only what nobody else knows"


def test_progress_is_read_only_of_the_jobs_that_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr("jobs.status._progress", lambda job: read.append(job.job_id) or "all")
    jobs = [Job(f"{number}", "train", "local", str(tmp_path / f"{number}"), None, (), 1000.0) for number in range(50)]
    shown = latest(statuses(jobs))
    assert not read
    assert table(shown).count("all") == len(read) == 20


def test_jobs_stand_in_the_order_of_their_submission_and_all_that_are_alive_are_shown(tmp_path: Path) -> None:
    for number in range(30):
        job = Job(f"{number}", "ingest", "local", str(tmp_path / f"{number}"), None, (), 1000.0 - number)
        job.save()
        if number != 29:  # the oldest
            (tmp_path / "cluster" / f"{number}").mkdir(parents=True)
            (tmp_path / "cluster" / f"{number}" / "state.json").write_text('{"state": "finished"}')
    found = statuses(all_jobs(tmp_path))
    assert [status.job.job_id for status in found] == [f"{number}" for number in reversed(range(30))]
    assert [status.job.job_id for status in latest(found)] == [f"{number}" for number in reversed(range(20))]
    lines = table(found[-3:], now=1000.0 + 7200).splitlines()
    assert [" ".join(line.split()) for line in lines[1:]] == [f"{n} ingest finished 2 h ago" for n in (2, 1, 0)]
