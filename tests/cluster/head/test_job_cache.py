"""What the head knows of its jobs, with a stand-in for squeue."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.head.job_cache import JobCache
from cluster.slurm import QueuedJob, SlurmSilenceError
from cluster.slurm.job_registry import RegisteredJob, comment

NOON = "2026-03-01T12:00:00"
Show = Callable[..., None]


@pytest.fixture
def show(tmp_path: Path, command: Callable[[str, str], None]) -> Show:
    """show((id, state, kind, end), ...): what squeue answers from now on; nothing at all: it fails."""

    def put(*jobs: tuple[str, str, str, str] | tuple[str, str, str]) -> None:
        lines = [
            f"{job[0]}|{job[1]}|None|1:00|n1|N/A|{job[3] if len(job) > 3 else 'N/A'}|ray:one:a:{job[2]}:r{job[0]}"
            for job in jobs
        ]
        (tmp_path / "queue").write_text("".join(f"{line}\n" for line in lines))
        command("squeue", f"cat {tmp_path}/queue" if jobs else "exit 1")

    return put


def asked_for(job_id: str) -> RegisteredJob:
    said = comment("one", "a", "cpu", f"r{job_id}")
    return RegisteredJob(QueuedJob(job_id, "PENDING", "None", None, "", "N/A", None, said), "a", "cpu", f"r{job_id}")


def test_places_are_held_by_jobs_until_they_are_over_and_by_those_being_submitted(show: Show) -> None:
    show(
        ("1", "RUNNING", "cpu"), ("2", "COMPLETING", "cpu"), ("3", "FAILED", "cpu"), ("4", "RUNNING", "gpu"),
        ("5", "RUNNING", "head"),
    )  # fmt: skip
    cache = JobCache("one", "a", poll_s=0)
    assert not cache.reserve("cpu", 2)
    assert cache.reserve("cpu", 3)
    assert not cache.reserve("cpu", 3), "the place is taken though nothing is submitted yet"
    cache.settle("cpu", None)
    assert cache.reserve("cpu", 3), "it was given back"
    assert set(cache.look()) == {"1", "2", "4"}
    assert [registered.job.job_id for registered in cache.failed()] == ["3"]


def test_a_job_submitted_while_squeue_was_answering_is_not_forgotten(
    show: Show, command: Callable[[str, str], None], tmp_path: Path
) -> None:
    show(("1", "RUNNING", "cpu"))
    command("squeue", f"touch {tmp_path}/asked; until [ -e {tmp_path}/go ]; do sleep 0.02; done; cat {tmp_path}/queue")
    cache = JobCache("one", "a", poll_s=0)
    looking = threading.Thread(target=cache.look)
    looking.start()
    while not (tmp_path / "asked").exists():
        looking.join(0.02)
    cache.settle("cpu", asked_for("9"))
    (tmp_path / "go").touch()
    looking.join()
    assert set(cache.running()) == {"1"}
    assert cache.requests() == {"r1", "r9"}
    assert set(cache.look()) == {"1"}, "squeue was asked after it, and does not know it"


def test_without_an_answer_nothing_has_changed_and_nothing_is_known_before_the_first(show: Show) -> None:
    show()
    cache = JobCache("one", "a", poll_s=0)
    with pytest.raises(SlurmSilenceError):
        cache.look()
    show(("1", "RUNNING", "cpu"))
    assert set(cache.look()) == {"1"}
    show()
    assert set(cache.look()) == {"1"}


def test_nothing_is_reserved_after_an_uncertain_submission_until_squeue_has_answered(show: Show) -> None:
    show(("1", "RUNNING", "cpu"))
    cache = JobCache("one", "a", poll_s=60)
    assert cache.reserve("cpu", 9)
    show()
    cache.distrust()
    assert not cache.reserve("cpu", 9)
    show(("1", "RUNNING", "cpu"), ("2", "PENDING", "cpu"))
    cache.look_soon()
    assert cache.reserve("cpu", 9)
    assert set(cache.look()) == {"1", "2"}


def test_a_running_job_whose_end_comes_a_minute_nearer_is_being_preempted(show: Show) -> None:
    cache = JobCache("one", "a", poll_s=0)
    show(("1", "RUNNING", "cpu", NOON), ("2", "RUNNING", "cpu", NOON), ("3", "PENDING", "cpu", NOON),
         ("4", "RUNNING", "cpu", NOON))  # fmt: skip
    cache.look()
    early, hardly, later = "2026-03-01T11:58:30", "2026-03-01T11:59:30", "2026-03-01T13:00:00"
    show(("1", "RUNNING", "cpu", early), ("2", "RUNNING", "cpu", hardly), ("3", "PENDING", "cpu", early),
         ("4", "RUNNING", "cpu", later))  # fmt: skip
    cache.look()
    assert cache.ending_early() == ["1"]


def test_hour_that_comes_twice_in_local_time_is_no_preemption(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        cache = JobCache("one", "a", poll_s=0)
        of_winter, of_summer, either = "2026-12-01T12:00:00", "2026-07-01T12:00:00", "2026-10-25T02:30:00"
        for before in (of_winter, of_summer):  # libraries read the hour as they read the time before it
            show(("1", "RUNNING", "cpu", before), ("2", "RUNNING", "cpu", either))
            cache.look()
        assert "2" not in cache.ending_early()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_job_whose_comment_a_site_rewrites_is_still_ours(show: Show, tmp_path: Path) -> None:
    show(("1", "RUNNING", "cpu"))
    cache = JobCache("one", "a", poll_s=0)
    cache.look()
    (tmp_path / "queue").write_text(
        "1|RUNNING|None|1:00|n1|N/A|N/A|billed to chest\n7|RUNNING|None|1:00|n1|N/A|N/A|x\n"
    )
    assert {job_id: registered.kind for job_id, registered in cache.look().items()} == {"1": "cpu"}
