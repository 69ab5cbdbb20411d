"""`python -m jobs` on a job that squeue no longer lists and that recorded nothing itself, on a SLURM with accounting
(sacct, slurmdbd) and on one without."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, with_overrides

from .conftest import Site, testbed

pytestmark = pytest.mark.slurm

HELD = ("--set", "slurm.extra=[--hold]")
"""A job that never starts."""


@contextmanager
def forgetful_bed(accounting: bool) -> Iterator[Any]:
    """One node, with a squeue that drops ended jobs within seconds."""
    reason = testbed.TestBed.why_not(isolated=False, accounting=accounting)
    if reason is not None:
        pytest.skip(reason)
    started = testbed.TestBed.start(nodes=1, isolated=False, accounting=accounting, forgets_s=2)
    try:
        yield started
    finally:
        started.stop()


def site_on(bed: Any, tiny_config: Config, folder: Path) -> Site:
    asked = {
        "slurm.cpus": 1, "slurm.memory_gb": 1.5, "slurm.time_min": 30, "slurm.folder": folder / "slurm-jobs",
        "slurm.local_disk": bed.disk, "train.run": folder / "run", "train.use_gpu": False,
    }  # fmt: skip
    return Site(bed, folder, with_overrides(tiny_config, asked))


def queued(bed: Any) -> list[str]:
    """Return the ids of all jobs that squeue lists."""
    return str(bed.run(["squeue", "-h", "-t", "all", "-o", "%i"]).stdout).split()


def forgotten(bed: Any) -> bool:
    return not queued(bed)


def after(site: Site, job: str) -> Any:
    """Try to submit a job that depends on `job`."""
    other = ["--run", str(site.folder / "after"), "--after", job, *HELD]
    return site.jobs("train", "--config", str(site.config_file), *other, check=False)


def kill_in_the_bud(site: Site, *arguments: str) -> str:
    """Submit a job and kill its task as soon as it runs, before it can record anything."""
    job = site.submit("train", *arguments)
    mark = f"SLURM_JOB_ID={job}\0"
    site.bed.wait_for(lambda: site.bed.processes_of("submitit.core._submit", mark), 60, "the task")
    site.bed.kill("submitit.core._submit", mark)
    return job


def test_accounting_reports_jobs_that_squeue_dropped(tiny_config: Config, tmp_path: Path) -> None:
    with forgetful_bed(accounting=True) as bed:
        site = site_on(bed, tiny_config, tmp_path)
        killed = kill_in_the_bud(site)
        taken_back = site.submit("train", "--run", str(tmp_path / "other"), *HELD)
        array = site.submit(
            "train", "--run", str(tmp_path / "array"), "--array", "seed=0,1,2", "--at-once", "2", *HELD
        )  # fmt: skip
        site.jobs("cancel", f"{array}_1")
        bed.run(["scancel", taken_back, array])
        bed.wait_for(lambda: forgotten(bed), 60, "squeue forgetting the jobs")
        site.wait(killed, "failed", 20)
        assert site.status(taken_back)["state"] == "cancelled"
        assert [site.status(f"{array}_{index}")["state"] for index in range(3)] == ["cancelled"] * 3
        for over in (killed, f"{array}_0", array):
            refused = after(site, over)
            assert refused.returncode == 2
            assert f"--after {over}: job {over.partition('_')[0]}" in refused.stderr
            assert "would never start" in refused.stderr
        # the folder is free again once its job has ended
        assert "nothing to cancel" in site.jobs("cancel", array, check=False).stderr
        assert site.submit("train", *HELD) > killed


@pytest.mark.slurm_core
def test_silent_job_is_gone_without_accounting(tiny_config: Config, tmp_path: Path) -> None:
    with forgetful_bed(accounting=False) as bed:
        assert "accounting storage is disabled" in bed.run(["sacct"], check=False).stderr
        site = site_on(bed, tiny_config, tmp_path)
        killed = kill_in_the_bud(site)
        mine, others = (site.submit("train", "--run", str(tmp_path / name), *HELD) for name in ("mine", "others"))
        site.jobs("cancel", mine)
        bed.run(["scancel", others])
        bed.wait_for(lambda: forgotten(bed), 60, "squeue forgetting the jobs")
        started = time.monotonic()
        states = {job: site.status(job)["state"] for job in (killed, mine, others)}
        assert states == {killed: "gone", mine: "cancelled", others: "gone"}
        assert time.monotonic() - started < 30, "three looks"
        assert "unknown to SLURM, and no record that it finished" in site.jobs("status").stdout


@pytest.mark.slurm_core
def test_forgotten_job_is_a_valid_dependency_only_if_it_finished(
    tiny_config: Config, tiny_run: Path, tmp_path: Path
) -> None:
    """SLURM would treat `afterok` on such a job as satisfied and start the new job at once."""
    with forgetful_bed(accounting=False) as bed:
        site = site_on(bed, tiny_config, tmp_path)
        finished = site.submit("generate", "--run", str(tiny_run), "--num", "16", "--out", str(tmp_path / "finished"))
        site.wait(finished, "finished")
        killed = kill_in_the_bud(site)
        waits = site.submit("train", "--run", str(tmp_path / "waits"), *HELD)
        bed.wait_for(lambda: set(queued(bed)) == {waits}, 60, "squeue forgetting the others")
        for forgotten_job in (killed, "4711"):
            refused = after(site, forgotten_job)
            assert refused.returncode == 2
            assert f"SLURM no longer knows job {forgotten_job}" in refused.stderr
        assert queued(bed) == [waits]
        assert after(site, finished).returncode == 0
        bed.run(["scancel", *(set(queued(bed)) - {waits})])
        assert after(site, waits).returncode == 0
