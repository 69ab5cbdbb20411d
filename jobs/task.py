"""What a job does on its nodes: make a Ray cluster of them, run one stage on it, and survive being interrupted.

The object is pickled by submitit and called once a node. Everything that a stage needs stands in its config; every
stage goes on from what it finds on disk, so an interrupted job has only to be started again:

    time nearly over    SLURM sends USR2 `slurm.warn_s` before: a checkpoint is asked for, the job requeues itself
    preempted           SLURM sends TERM and requeues the job: a checkpoint is asked for, as far as there is time
    node failed         SLURM requeues the job
    requeued by hand    the same
"""

import importlib
import json
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import submitit

from emixer import files
from emixer.config import validate
from emixer.errors import EmixerError
from jobs.allocation import Allocation

STATE_NAME = "state.json"
_POLL_S = 0.5


@dataclass
class StageTask:
    """One stage in one job."""

    stage: str
    """Name for people, e.g. `train`."""
    module: str
    """What runs it, e.g. `emixer.stages.train`."""
    tree: dict[str, Any]
    """The resolved config as YAML would have it."""
    run_folder: str | None
    """Where a checkpoint can be asked for, if the stage trains."""
    cluster_folder: str
    """Where the tasks of the job meet; each job has a subfolder by its id."""

    def __call__(self) -> None:
        """Called in every task. Raises what the stage raised, in one paragraph where it is the user's to act on."""
        allocation = Allocation.from_environment()
        if allocation is None:
            self._run_stage(ray_address=None, state=Path(self.cluster_folder) / submitit.JobEnvironment().job_id)
            return
        from jobs import ray_in_job

        config = validate(self.tree, "the job")
        folder = Path(self.cluster_folder) / allocation.job_id
        disk = config.slurm.local_disk
        if allocation.rank > 0:
            ray_in_job.serve(allocation, folder, disk)
            return
        signal.signal(signal.SIGTERM, self._on_term)
        with ray_in_job.head(allocation, folder, disk) as head:
            self._run_stage(head.address, folder)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when the time is nearly over, before it requeues the job."""
        self._save(wait_s=self.tree["slurm"]["warn_s"] / 2)
        return submitit.helpers.DelayedSubmission(self)

    def _run_stage(self, ray_address: str | None, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        files.write_json(state / STATE_NAME, {"state": "running", "since": time.time()})
        tree = self.tree
        if ray_address is not None:
            tree = tree | {"ray": tree["ray"] | {"address": ray_address}}
        try:
            result = importlib.import_module(self.module).run(validate(tree, "the job"))
        except EmixerError as error:
            files.write_json(state / STATE_NAME, {"state": "failed", "error": error.message})
            print(f"Error: {error.message}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None  # what the user can act on needs no traceback
        except Exception as error:
            last = traceback.format_exception_only(error)[-1].strip()
            files.write_json(state / STATE_NAME, {"state": "failed", "error": last})
            raise
        files.write_json(state / STATE_NAME, {"state": "finished", "summary": str(result)})
        print(result, flush=True)

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        """SLURM is about to take the nodes. It requeues the job itself; what time there is goes into a checkpoint."""
        self._save(wait_s=0)

    def _save(self, wait_s: float) -> None:
        """Asks the run for a checkpoint, and waits until there is one."""
        request = self._request()
        if request is None:
            return
        end = time.monotonic() + wait_s
        while request.exists() and time.monotonic() < end:
            time.sleep(_POLL_S)

    def _request(self) -> Path | None:
        from emixer.run_folder import RunFolder

        if self.run_folder is None or not Path(self.run_folder).is_dir():
            return None
        folder = RunFolder(Path(self.run_folder))
        folder.request_save()
        return folder.save_request


def read_state(folder: Path) -> dict[str, Any]:
    """What the task said last; empty before it began."""
    try:
        state = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
