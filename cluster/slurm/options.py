"""Which options of sbatch users may give themselves, in `extra` of a cluster or a job."""

from typing import Annotated

from pydantic import AfterValidator

OTHER_CLUSTER = dict.fromkeys(
    ("cluster", "clusters"),
    "would send the job to a SLURM cluster where its state is not looked for: set SLURM_CLUSTERS in the environment "
    "instead, which every command of SLURM reads",
)
"""Options of sbatch that must not be given, and why."""
SET_BY_US = (
    "job-name", "nodes", "ntasks", "ntasks-per-node", "output", "error", "open-mode", "signal", "dependency", "comment",
    "array", "requeue", "no-requeue", "parsable", "wait", "wrap", "partition", "account", "qos", "constraint",
    "cpus-per-task", "mem", "time", "gpus-per-node", "gres",
)  # fmt: skip
"""Options that every job is given anyway, that have settings for clusters and for jobs, or that change what sbatch
answers."""


def _allowed(options: tuple[str, ...]) -> tuple[str, ...]:
    for option in options:
        _require_allowed(option)
    return options


def _require_allowed(option: str) -> None:
    name = option.removeprefix("--").partition("=")[0]
    if not option.startswith("--") or "\n" in option:
        raise ValueError(f"{option!r} is not a long sbatch option; write e.g. --exclusive")
    if name in OTHER_CLUSTER:
        raise ValueError(f"--{name} {OTHER_CLUSTER[name]}")
    if name in SET_BY_US:
        raise ValueError(f"--{name} is set by this program; remove it, or use the setting for it")


SbatchOptions = Annotated[tuple[str, ...], AfterValidator(_allowed)]
"""Long options of sbatch, of which none is set by us or makes us lose the job."""
