"""submitit's executors, which remember the job that they have started: submitit (1.5) writes files of the job
afterwards, and says nothing of the job where that fails."""

import uuid
from collections.abc import Sequence
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission, JobPaths


class SlurmExecutor(submitit.SlurmExecutor):  # type: ignore[misc]
    """For sbatch. Also usable without srun: a dry run does not need it."""

    started: str | None = None
    """Id of the job, as soon as sbatch has said it; of an array, that of the whole."""

    @classmethod
    def affinity(cls) -> int:
        return 2

    def _get_job_id_from_submission_command(self, string: bytes | str) -> str:
        self.started = str(super()._get_job_id_from_submission_command(string))
        return self.started

    def _internal_process_submissions(
        self, delayed_submissions: Sequence[DelayedSubmission]
    ) -> list[submitit.Job[Any]]:
        """As submitit's, which submits an array with a plain executor that would not remember."""
        if len(delayed_submissions) == 1:
            made: list[submitit.Job[Any]] = super()._internal_process_submissions(delayed_submissions)
            return made
        folder = JobPaths.get_first_id_independent_folder(self.folder)
        pickles = [folder / f"{uuid.uuid4().hex}.pkl" for _ in delayed_submissions]
        for delayed, pickle in zip(delayed_submissions, pickles, strict=True):
            delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
            delayed.dump(pickle)
        self.parameters["map_count"] = len(pickles)
        array = self._submit_command(self._submitit_command_str)
        tasks = range(array.num_tasks)
        jobs = [
            self.job_class(folder=self.folder, job_id=f"{array.job_id}_{element}", tasks=list(tasks))
            for element in range(len(pickles))
        ]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs


class LocalExecutor(submitit.LocalExecutor):  # type: ignore[misc]
    """For background processes of this machine."""

    started: str | None = None
    """Id of the job, which is that of its process."""

    def _submit_command(self, command: str) -> submitit.Job[Any]:
        job = super()._submit_command(command)
        self.started = str(job.job_id)
        return job
