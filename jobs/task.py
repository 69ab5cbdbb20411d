"""What a job does on its nodes: start a Ray cluster, run one stage on it, and survive interruptions.

The object is pickled by submitit and called once per node. The config holds everything that a stage needs, and every
stage resumes from what it finds on disk, so an interrupted job only has to be started again:

    time limit near     SLURM sends USR2 `slurm.warn_s` before: a checkpoint is requested, the job requeues itself
    preempted           SLURM sends TERM and requeues the job: a checkpoint is requested, if there is time (where SLURM
                        tracks processes without cgroups, TERM reaches Ray too, and there is none)
    node failed         SLURM requeues the job
    requeued by hand    the same
    cancelled           SLURM sends TERM: the job ends, even while saving, and does not return
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import submitit

from cluster import slurm
from cluster.errors import ClusterError
from cluster.files import FreshView
from cluster.node.ray_node import ignore_warnings
from cluster.slurm.allocation import Allocation
from emixer import files
from emixer.run_folder import RunFolder
from jobs.run_stage import ORDER_NAME, STATE_NAME, write_state

TRIALS = "trials/*"
"""Run folders of the trials, below the folder of a search."""
_GENERATORS = "generators/*/run"
"""Run folders of the generators, below the folder of an experiment."""
TAKEN_BACK = "cancelled"
"""File in a job's folder that marks `python -m jobs cancel`. SLURM may soon forget a job that never started, and a job
that requests its requeue at that very moment would come back."""
_POLL_S = 0.2
_REQUEUE_S = 30.0
"""Part of `slurm.warn_s` that a job keeps for its requeue, if that is less than half of it."""
_ASK_EVERY_S = 1.0
_SAVE_WAIT_S = 10.0
"""Part of the 30 s that SLURM leaves between TERM and KILL."""
_SILENCE_S, _ASK_AGAIN_S = 3600.0, 5.0
"""How long a job waits for a SLURM that does not answer, and how often it asks. A job that exits meanwhile has failed,
and a SLURM that is down ends no job at its time limit."""


@dataclass
class StageTask:
    """One stage in one job."""

    module: str
    """Module of the stage, e.g. `emixer.stages.train`."""
    tree: dict[str, Any]
    """Resolved config as plain values, as in YAML."""
    run_folder: str | None
    """Folder where a checkpoint can be requested, if the stage trains; for a search or an experiment, its own folder,
    which holds those of its trials or generators."""
    cluster_folder: str
    """Folder where the tasks of a job meet; each job has a subfolder named by its id."""
    _told_to_end: bool = False
    _told_at: float = 0.0
    _ask_at: float = 0.0

    def __call__(self) -> None:
        """Run in every task. Exits with the stage's exit code if that is not 0."""
        environment = submitit.JobEnvironment()
        # a local job in the shell of srun or salloc is none of the surrounding job's tasks: it has its share alone
        allocation = None if environment.cluster == "local" else Allocation.from_environment()
        folder = Path(self.cluster_folder) / environment.job_id
        if allocation is not None and allocation.rank == 0:
            signal.signal(signal.SIGTERM, self._on_term)
        if allocation is None or allocation.rank == 0:
            self._leave_if_taken_back()
            (folder / STATE_NAME).unlink(missing_ok=True)  # of an earlier run; other tasks may start after the stage
        if allocation is None:
            signal.signal(signal.SIGTERM, _end)
            self._run_stage(folder)
            return
        from jobs import ray_in_job

        # a tree that this version refuses is reported by the stage
        disk = Path(self.tree["slurm"]["local_disk"])
        if allocation.rank > 0:
            ray_in_job.serve(allocation, folder, disk)
            return
        try:
            with ray_in_job.head(allocation, folder, disk, lambda: self._told_to_end) as head:
                self._run_stage(folder, head.address)
        # from Ray's nodes: errors of a stage stay in its own process
        except (RuntimeError, TimeoutError, ClusterError) as error:
            if self._told_to_end:  # before the stage began, so that there is nothing to save
                self._requeue_preempted(submitit.JobEnvironment().job_id)
            else:
                write_state(folder, {"state": "failed", "error": str(error)})
            print(f"Error: {error}", file=sys.stderr, flush=True)
            raise SystemExit(1) from error

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit near the time limit, before it requeues the job. Exits if the job must not be
        requeued."""
        job_id = submitit.JobEnvironment().job_id
        warn_s = self.tree["slurm"]["warn_s"]
        self._save(job_id, max(warn_s / 2, warn_s - _REQUEUE_S))
        if not self._may_requeue(job_id):
            raise SystemExit(1)
        # of a requeue that was killed while it wrote: submitit (1.5) refuses to write beside it
        for leftover in Path(self.cluster_folder).parent.glob(f"{job_id}/*.save_tmp"):
            leftover.unlink(missing_ok=True)
        return submitit.helpers.DelayedSubmission(replace(self, _told_to_end=False, _told_at=0.0, _ask_at=0.0))

    def _run_stage(self, folder: Path, ray_address: str | None = None) -> None:
        """Run the stage in a process of its own. ray_address: of the job's cluster, if it has one."""
        folder.mkdir(parents=True, exist_ok=True)
        order = folder / ORDER_NAME
        # the job's own cluster is no setting: stages keep their config, and kept it would name a cluster that is gone
        ours = {} if ray_address is None else {"ray": self.tree["ray"] | {"address": None}}
        files.write_json(order, {"module": self.module, "config": self.tree | ours})
        job_id = submitit.JobEnvironment().job_id
        environment = dict(os.environ)
        if ray_address is not None:
            environment["RAY_ADDRESS"] = ray_address
        if environment.get("SLURM_RESTART_COUNT", "0") != "0":
            environment.setdefault(files.LOCK_WAIT, str(files.LOCK_OF_THE_DEAD_S))
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.run_stage", str(order)], preexec_fn=ignore_warnings, env=environment
        )
        try:
            while (code := process.poll()) is None and not self._is_to_leave(job_id):
                time.sleep(_POLL_S)  # SLURM's signals are handled here
        finally:
            process.kill()
            process.wait()
        if code is None:  # the remaining time is for cleaning up
            raise SystemExit(1)
        if code and self._told_to_end:
            self._requeue_preempted(job_id)
        if code:  # the error is in the log and in state.json; a traceback from here would add nothing
            raise SystemExit(code)

    def _is_to_leave(self, job_id: str) -> bool:
        """Whether SLURM is ending this run of the job and nothing more can be saved: a job that waits to be killed
        leaves Ray's files on the nodes."""
        now = time.monotonic()
        if not self._told_to_end or now < self._ask_at:
            return False
        self._ask_at = now + _ASK_EVERY_S
        if self._is_taken_back(job_id):
            return True
        state = slurm.state_of(job_id)
        if state is None or slurm.is_at_work(state):  # a preemption has a grace time, and others may send TERM
            return False
        is_late = now - self._told_at > _SAVE_WAIT_S
        return state.startswith("CANCELLED") or is_late or not any(f.save_is_requested for f in self._runs())

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        """Request a checkpoint: SLURM is about to take the nodes. If the job was cancelled, the remaining time is for
        leaving the nodes clean."""
        self._told_to_end, self._told_at = True, time.monotonic()
        for folder in self._runs():
            folder.request_save()

    def _save(self, job_id: str, wait_s: float) -> None:
        """Request a checkpoint, and wait until it is saved, `wait_s` have passed, or the job is being ended."""
        asked = self._runs()
        for folder in asked:
            folder.request_save()
        end = time.monotonic() + wait_s
        while any(folder.save_is_requested for folder in asked) and time.monotonic() < end:
            if self._is_to_leave(job_id):
                return
            time.sleep(_POLL_S)
        if any(folder.save_is_requested for folder in asked):
            print(
                f"No checkpoint was saved within {wait_s:.0f} s of SLURM's warning, since none is written before the "
                "next log line: this job resumes from the last one. Raise slurm.warn_s, or log more often "
                "(train.log_every_images).",
                flush=True,
            )

    def _may_requeue(self, job_id: str) -> bool:
        """Whether this job should request its requeue: while it runs, or when SLURM ends it only for its time limit.
        Otherwise it was cancelled, which a requeue would undo, or SLURM requeues it by itself."""
        if submitit.JobEnvironment().cluster == "local":  # SLURM knows nothing of it
            return not self._is_taken_back(job_id)
        found = None
        for _ in _until_slurm_answers():
            found = slurm.standing(job_id)
            if found is not None or self._told_to_end:
                break
        if self._is_taken_back(job_id):
            return False
        return found is None or slurm.is_at_work(found[0]) or found[1] == "TimeLimit"

    def _requeue_preempted(self, job_id: str) -> None:
        """Requeue this job if it was ended by a preemption, not by scancel.

        SLURM requeues a preempted job that it has to kill, but counts one that exits within its grace time as failed.
        """
        for _ in _until_slurm_answers():
            state = slurm.state_of(job_id)
            if self._is_taken_back(job_id) or not (state is None or slurm.is_at_work(state)):
                return
            if state is not None:
                try:
                    slurm.requeue(job_id)
                except slurm.SlurmSilenceError:
                    continue
                except slurm.SlurmRefusalError as error:
                    print(f"SLURM refused to requeue this job: {error.message}", flush=True)
                return

    def _is_taken_back(self, job_id: str) -> bool:
        folder = Path(self.cluster_folder).parent / job_id
        FreshView(folder).refresh()
        return (folder / TAKEN_BACK).exists()

    def _leave_if_taken_back(self) -> None:
        """End a job for good that was cancelled at the moment of its requeue."""
        job_id = submitit.JobEnvironment().job_id
        if self._is_taken_back(job_id):
            print("This job was cancelled with `python -m jobs cancel`. To resume, submit it again.", flush=True)
            slurm.cancel([job_id])
            raise SystemExit(1)

    def _runs(self) -> list[RunFolder]:
        """Busy run folders of the stage: its own, and those of its trials or generators."""
        if self.run_folder is None:
            return []
        root = Path(self.run_folder)
        found = [root, *root.glob(TRIALS), *root.glob(_GENERATORS)]
        folders = [RunFolder(path) for path in found if path.is_dir()]
        return [folder for folder in folders if folder.is_busy]  # a finished one would never answer


def _until_slurm_answers() -> Iterator[None]:
    """Attempts at a question, for as long as it is worth waiting for the answer."""
    yield
    print("SLURM does not answer. This job waits for it, to be requeued.", flush=True)
    end = time.monotonic() + _SILENCE_S
    while time.monotonic() < end:
        time.sleep(_ASK_AGAIN_S)
        yield


def _end(number: int, frame: FrameType | None) -> None:
    """Exit on TERM, which cancels a local job."""
    raise SystemExit(128 + number)
