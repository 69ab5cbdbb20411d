"""From a config to a job: the sbatch script and its submission.

submitit writes the script and pickles the task; the resources requested are those of the config's `slurm` section.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

import submitit

from cluster.slurm import SlurmSilenceError, cancel, environment_of_user, identity, is_silence
from emixer import files
from emixer.config import Config
from emixer.config.slurm import Executor, SlurmConfig
from emixer.errors import ConfigError, EmixerError, StorageError
from jobs.executors import LocalExecutor, SlurmExecutor
from jobs.run_stage import STATE_NAME
from jobs.task import TAKEN_BACK, StageTask

JOB_NAME, CLUSTER_FOLDER, DEFAULT_FOLDER = "job.json", "cluster", "slurm-jobs"
OUTPUT_KEYS = {
    "ingest": "ingest.out", "encoder": "encoder.run", "train": "train.run", "tune": "tune.study",
    "generate": "generate.out", "evaluate": "evaluate.out", "audit": "audit.out",
    "experiment": "experiment.out", "study": "study.folder",
}  # fmt: skip
"""The setting of each stage that names the folder it writes."""
_GPUS = ("GPUS", "GPUS_PER_NODE", "GPUS_PER_SOCKET", "GPUS_PER_TASK", "GRES")
_VARIABLES = {
    "time": ("TIMELIMIT",), "mem": ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"), "requeue": ("NO_REQUEUE",),
    "array": ("ARRAY_INX",), "gpus-per-node": _GPUS, "gres": _GPUS, "cpus-per-task": ("CPUS_PER_GPU",),
}  # fmt: skip
"""What follows SBATCH_ in the variables for an option of sbatch and for its opposites, beside its own name."""
_SUBMITITS = ("signal", "output", "error", "open-mode", "array", "wait")
"""Options that submitit gives, or relies on not being given."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
COMMENT = "emixer:"
"""How the comment of each job begins."""
_MAX_AT_ONCE = 1000
"""Jobs of an array at a time, unless the user sets fewer: high enough that the site's limits decide."""


@dataclass(frozen=True)
class Job:
    """A submitted job, as recorded in its folder."""

    job_id: str
    stage: str
    executor: Executor
    folder: str
    """Folder of this job: script, logs, state."""
    run: str | None
    """Output folder of the stage."""
    after: tuple[str, ...]
    """Jobs that must finish first."""
    submitted: float
    """Seconds since the epoch."""
    label: str = ""
    """The settings in which it differs from the others of its array."""
    host: str = ""
    """Machine on which a local job runs; empty for one of SLURM's, and in files of before."""

    @property
    def array_id(self) -> str | None:
        """Id of the array that it belongs to; None for a single job."""
        array, underscore, _ = self.job_id.partition("_")
        return array if underscore else None

    def save(self) -> None:
        """Write job.json to its folder."""
        files.write_json(Path(self.folder) / JOB_NAME, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read job.json. Raises EmixerError when it is damaged."""
        try:
            fields = json.loads((folder / JOB_NAME).read_text(encoding="utf-8"))
            return cls(**fields | {"after": tuple(fields["after"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EmixerError(
                f"{folder / JOB_NAME} is not a readable job file ({type(error).__name__}). Delete its folder; this "
                "does not affect the job itself."
            ) from error


def folder_of(slurm: SlurmConfig) -> Path:
    """Absolute path of the jobs folder: nodes must find it too. Raises ConfigError."""
    folder = (slurm.folder or Path(DEFAULT_FOLDER)).absolute()
    if any(character in str(folder) for character in "%\\\n"):
        raise ConfigError(
            f"slurm.folder={folder} contains a %, a backslash or a line break, which sbatch would interpret. "
            "Choose another folder."
        )
    return folder


def state_folder(job: Job) -> Path:
    """Folder where the tasks of the job meet, and its stage records its state."""
    return Path(job.folder).parent / CLUSTER_FOLDER / job.job_id


def log_of(job: Job) -> Path:
    """Log of the first task, which has the output of the stage."""
    return Path(job.folder) / f"{job.job_id}_0_log.out"


def script(stage: str, config: Config, after: Sequence[str] = (), num: int = 1, at_once: int | None = None) -> str:
    """The sbatch script of `num` jobs."""
    executor = _executor(stage, config, after, at_once)
    if num > 1:
        executor.parameters["map_count"] = num
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))


def submit(
    stage: str, module: str, configs: Mapping[str, Config], executor: Executor, after: Sequence[str] = (),
    at_once: int | None = None,
) -> list[Job]:  # fmt: skip
    """Submit one stage; several configs, by label, as a job array. All must have the same `slurm` settings.

    at_once: maximum number of jobs of an array running at a time. Raises EmixerError with SLURM's message on refusal,
    and where files of the job cannot be written; if it was submitted before that, it is cancelled.
    """
    first = next(iter(configs.values()))
    folder = folder_of(first.slurm)
    if executor == "local" and after:
        raise ConfigError("--after needs SLURM: with --executor local, run the command when the other job is done.")
    if executor == "local" and len(configs) > 1:
        raise ConfigError("--array needs SLURM: with --executor local, run the commands one after the other.")
    chosen = _local_executor(first) if executor == "local" else _executor(stage, first, after, at_once)
    environment = nullcontext() if executor == "local" else _environment_of_user(_options(chosen))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if executor == "slurm":
            with slurms_words():
                identity.remember(folder)
        since_ns = _clock_of(folder)
        with warnings.catch_warnings(), _own_output(executor == "local"), environment:
            warnings.simplefilter("ignore")
            with chosen.batch():  # one job for one task, an array for several
                submitted = [chosen.submit(_task(stage, module, config)) for config in configs.values()]
        return [
            _listed(str(made.job_id), stage, executor, config, after, label, since_ns)
            for (label, config), made in zip(configs.items(), submitted, strict=True)
        ]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise _not_submitted(stage, error) from error
    except (OSError, StorageError) as error:
        why = error if isinstance(error, StorageError) else files.storage_error(folder, error)
        if chosen.started is None:
            raise why from error
        raise _taken_back(chosen.started, executor, why) from error


def _clock_of(folder: Path) -> int:
    """Now, as the folder's file system dates its files [ns]: this machine may have another clock."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        return Path(file.name).stat().st_mtime_ns


def _listed(
    job_id: str, stage: str, executor: Executor, config: Config, after: Sequence[str], label: str, since_ns: int
) -> Job:  # fmt: skip
    """Record a job in its folder. since_ns: before its submission. Raises OSError or StorageError where that cannot be
    written."""
    run, folder = output_of(stage, config), folder_of(config.slurm) / job_id
    job = Job(
        job_id, stage, executor, str(folder), None if run is None else str(run), tuple(after), time.time(), label,
        socket.gethostname() if executor == "local" else "",
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    _forget_namesake(job, since_ns)
    job.save()
    return job


def _taken_back(job_id: str, executor: Executor, why: StorageError) -> EmixerError:
    """Cancel a job that has started, or is queued, without its files: it would run unlisted, and its repetition beside
    it. Returns that in words."""
    if executor == "local":
        with suppress(ProcessLookupError):
            os.kill(int(job_id), signal.SIGTERM)
        return EmixerError(f"Job {job_id} was ended, as its files could not be written. {why.message}")
    try:
        cancel([job_id])
    except SlurmSilenceError as error:
        return EmixerError(
            f"SLURM has job {job_id}, but its files could not be written, and cancelling it failed too "
            f"({error.message}): run `scancel {job_id}` before you submit it again. {why.message}"
        )
    return EmixerError(f"Job {job_id} was cancelled, as its files could not be written. {why.message}")


def _forget_namesake(job: Job, since_ns: int) -> None:
    """Remove what an earlier job of the same number recorded, which SLURM may have given out again. What is newer than
    the submission is the job's own: an element of a large array may end before all of them are listed."""
    for path in (Path(job.folder) / TAKEN_BACK, state_folder(job) / STATE_NAME):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime_ns < since_ns:
                path.unlink()


def _task(stage: str, module: str, config: Config) -> StageTask:
    trained = {
        "train": config.train.run, "encoder": config.encoder.run, "tune": config.tune.study,
        "experiment": config.experiment.out,
    }.get(stage)  # fmt: skip
    folder = folder_of(config.slurm) / CLUSTER_FOLDER
    return StageTask(
        module,
        config.without_password().model_dump(mode="json"),
        None if trained is None else str(trained),
        str(folder),
    )


@contextmanager
def _own_output(needed: bool) -> Iterator[None]:
    """Detach a local job from this process's output, which it would hold open: `$(python -m jobs ...)` would hang."""
    if not needed:
        yield
        return
    sys.stdout.flush()
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


@contextmanager
def _environment_of_user(options: Iterable[str]) -> Iterator[None]:
    """Hide the variables of a surrounding job: sbatch would take them for options, and the new job inherit its Ray.
    Hide also the user's own for `options`: sbatch would give them precedence over the script."""
    before = dict(os.environ)
    overriding = {
        f"SBATCH_{name}"
        for option in options
        for name in (option.upper().replace("-", "_"), *_VARIABLES.get(option, ()))
    }
    os.environ.clear()
    os.environ.update({k: v for k, v in environment_of_user(before).items() if k not in overriding})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _options(executor: SlurmExecutor) -> list[str]:
    """Names of the sbatch options in its script."""
    given = executor.parameters | executor.parameters["additional_parameters"]
    return [*_SUBMITITS, *(name.replace("_", "-") for name in given)]


def output_of(stage: str, config: Config) -> Path | None:
    """Output folder of a stage."""
    section, _, name = OUTPUT_KEYS[stage].partition(".")
    folder: Path | None = getattr(getattr(config, section), name)
    return folder


def require_slurm(folder: Path) -> None:
    """Raise EmixerError where sbatch or srun is missing, or the folder is for the jobs of another SLURM."""
    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise EmixerError(
            "sbatch and srun are not on PATH: this is not a login node of a SLURM cluster. Log in to one, or use "
            "--executor local to run the job as a background process on this machine."
        )
    with slurms_words():
        names = identity.elsewhere(folder)
    if names is not None:
        raise EmixerError(
            f"The jobs in {folder} were submitted to the SLURM cluster {names[0]}, but this is {names[1]}, whose jobs "
            f"may have the same numbers. Set another slurm.folder, or submit on a login node of {names[0]}."
        )


@contextmanager
def slurms_words() -> Iterator[None]:
    """Raise EmixerError with the same message when SLURM does not answer."""
    try:
        yield
    except SlurmSilenceError as error:
        raise EmixerError(error.message) from error


def _executor(stage: str, config: Config, after: Sequence[str], at_once: int | None = None) -> SlurmExecutor:
    slurm = config.slurm
    executor = SlurmExecutor(folder=folder_of(slurm) / "%j", max_num_timeout=slurm.max_requeues, python=_python())
    executor.update_parameters(**_parameters(stage, slurm, after), array_parallelism=at_once or _MAX_AT_ONCE)
    return executor


def _parameters(stage: str, slurm: SlurmConfig, after: Sequence[str]) -> dict[str, Any]:
    named: Mapping[str, Any] = {
        "partition": slurm.partition, "account": slurm.account, "qos": slurm.qos, "constraint": slurm.constraint,
        "gres": slurm.gres, "gpus_per_node": slurm.gpus_per_node or None, "mail_user": slurm.mail_user,
        "mail_type": slurm.mail_type if slurm.mail_user else None,
        "dependency": "afterok:" + ":".join(after) if after else None,
    }  # fmt: skip
    extra = dict(_option(text) for text in slurm.extra)
    return {
        "job_name": job_name(stage),
        "nodes": slurm.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": slurm.cpus,
        "mem": _memory(slurm.memory_gb),
        "time": slurm.time_min,
        "signal_delay_s": slurm.warn_s,
        "stderr_to_stdout": True,
        "setup": list(slurm.setup) or None,
        # not every version of srun inherits the first from sbatch: a task may use every CPU of its share. Where a site
        # sets SBATCH_EXPORT=NONE, tasks would get neither slurm.setup's variables nor submitit's without the last
        "srun_args": [f"--cpus-per-task={slurm.cpus}", "--kill-on-bad-exit=1", "--export=ALL"],
        "additional_parameters": {"requeue": True, "comment": f"{COMMENT}{stage}", **extra},
        **{name: value for name, value in named.items() if value is not None},
    }


def job_name(stage: str) -> str:
    """Name of the stage's jobs in SLURM."""
    return f"emixer-{stage}"


def _option(text: str) -> tuple[str, str | bool]:
    name, equals, value = text.removeprefix("--").partition("=")
    return name, value if equals else True


def _memory(gb: float) -> str:
    return f"{round(gb * 1024)}M"


def _python() -> str:
    return shlex.quote(sys.executable)


def _local_executor(config: Config) -> LocalExecutor:
    slurm, visible = config.slurm, _visible_gpus()
    if visible is not None and slurm.gpus > len(visible):
        raise ConfigError(
            f"The job requests {slurm.gpus} GPU(s), but CUDA_VISIBLE_DEVICES={os.environ[_VISIBLE]} shows "
            f"{len(visible)}. Change it, or lower slurm.gpus_per_node or slurm.gres."
        )
    executor = LocalExecutor(folder=folder_of(slurm) / "%j", max_num_timeout=slurm.max_requeues)
    executor.update_parameters(
        timeout_min=slurm.time_min, stderr_to_stdout=True, gpus_per_node=slurm.gpus, signal_delay_s=slurm.warn_s
    )
    if visible is not None:  # not above, where submitit takes numbers only: CUDA also names GPUs by UUIDs
        executor.parameters["visible_gpus"] = visible
    return executor


def _visible_gpus() -> tuple[str, ...] | None:
    """GPUs that the user lets programs see, as CUDA reads it: up to a -1. None where all are visible."""
    if _VISIBLE not in os.environ:
        return None
    names = (name.strip() for name in os.environ[_VISIBLE].split(","))
    return tuple(takewhile(lambda name: name not in ("", "-1"), names))


def _not_submitted(stage: str, error: Exception) -> EmixerError:
    """That SLURM refused the job, or that it did not answer and may have the job all the same."""
    is_unclear = isinstance(error, submitit.core.utils.FailedSubmissionError)  # sbatch succeeded, and named no job
    if not is_unclear and not is_silence(str(error)):
        return EmixerError(f"SLURM refused the job: {_words_of_sbatch(error)}")
    words = str(error).splitlines()[0] if is_unclear else _words_of_sbatch(error)
    return EmixerError(
        f"SLURM did not say whether it has the job: {words}. Before you submit again, look for it with "
        f"`squeue --me --all --name={job_name(stage)}`, and cancel it with `scancel`."
    )


def _words_of_sbatch(error: Exception) -> str:
    text = str(error)
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in text.splitlines()]
    said = [line for line in lines if line and "Traceback" not in line]
    return said[-1] if said else type(error).__name__
