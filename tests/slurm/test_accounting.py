"""What `python -m jobs` tells of a job that squeue has forgotten and that could say nothing for itself, on a SLURM that
keeps accounts (sacct, slurmdbd) and on one that keeps none."""

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
    """One node whose squeue forgets what is over within seconds."""
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


def forgotten(bed: Any) -> bool:
    return not bed.run(["squeue", "-h", "-t", "all"]).stdout.strip()


def kill_in_the_bud(site: Site, *arguments: str) -> str:
    """Submits a job and kills its task as soon as it runs, before it can say anything."""
    job = site.submit("train", *arguments)
    mark = f"SLURM_JOB_ID={job}\0"
    site.bed.wait_for(lambda: site.bed.processes_of("submitit.core._submit", mark), 60, "the task")
    site.bed.kill("submitit.core._submit", mark)
    return job


def test_what_squeue_has_forgotten_is_told_by_the_accounts(tiny_config: Config, tmp_path: Path) -> None:
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
        # a folder is free again when its job is over
        assert "nothing to cancel" in site.jobs("cancel", array, check=False).stderr
        assert site.submit("train", *HELD) > killed


def test_without_accounts_a_job_that_said_nothing_is_gone(tiny_config: Config, tmp_path: Path) -> None:
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
        assert "SLURM no longer knows it" in site.jobs("status").stdout
