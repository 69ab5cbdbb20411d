"""Settings of `python -m jobs`: what each job requests from SLURM."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cluster.slurm.gres import gpus, require_no_shard
from cluster.slurm.options import SbatchOptions
from emixer.config.base import Section

STAGES = {
    "ingest": "Convert a raw collection to shards, as a job.",
    "encoder": "Train the chest encoder, as a job.",
    "train": "Train a model, as a job that saves, requeues itself and resumes.",
    "tune": "Search hyperparameters, as a job that resumes when it is requeued.",
    "generate": "Write a synthetic paired dataset, as a job.",
    "evaluate": "Compare a dataset with real images and reports, as a job.",
    "audit": "Measure how much of its training data a dataset leaks, as a job.",
    "experiment": "Reproduce a table of the paper, as a job that keeps every finished cell.",
    "study": "Draw the pairs of a reader study, as a job.",
}
"""What `python -m jobs` submits, in the order of the work."""
_COMMON = {"folder", "stages"}
_EARLY_S = 60
"""How much earlier than it was asked to SLURM may send a warning, by the manual of sbatch."""
_START_S = 60
"""What a job should have between its start and the warning, or it would be requeued before it has done anything."""


class SlurmConfig(Section):
    """One job: a Ray cluster on its nodes, and a stage that runs on it. Most settings are sbatch options."""

    partition: str | None = None
    """--partition. Default: that of the site."""
    account: str | None = None
    """--account, which is charged for the job."""
    qos: str | None = None
    """--qos (quality of service)."""
    nodes: int = Field(1, ge=1)
    """--nodes of the job."""
    gpus_per_node: int = Field(0, ge=0)
    """--gpus-per-node; 0: none."""
    gres: str | None = None
    """--gres, for sites that name GPUs by type, e.g. `gpu:a100:4`; instead of gpus_per_node."""
    cpus: int = Field(4, ge=1)
    """--cpus-per-task: CPUs per node; the job has one task per node."""
    memory_gb: float = Field(16, gt=0)
    """--mem: memory per node [GB]."""
    time_min: int = Field(24 * 60, ge=1)
    """--time [min]. At the limit the job saves, requeues itself and resumes."""
    constraint: str | None = None
    """--constraint on node features, e.g. `a100`."""
    mail_user: str | None = None
    """--mail-user, who is notified."""
    mail_type: str = "END,FAIL"
    """--mail-type, if mail_user is set."""
    extra: SbatchOptions = Field((), strict=False)
    """Further sbatch options, e.g. `[--exclusive, --reservation=maintenance]`."""
    setup: tuple[str, ...] = Field((), strict=False)
    """Shell lines to run before the stage, e.g. `[module load cuda]`."""
    folder: Path | None = Field(None, strict=False)
    """Folder for job scripts, logs and states, visible to all nodes. Default: ./slurm-jobs."""
    warn_s: int = Field(120, ge=30)
    """How long before the time limit SLURM signals the job, which then saves and requeues [s]."""
    max_requeues: int = Field(100, ge=0)
    """How many times a job may requeue itself at its time limit."""
    local_disk: Path = Field(Path("/tmp"), strict=False)  # noqa: S108 - a folder of the job's own is made in it
    """Folder on each node for this job's Ray files; keep it short, since socket paths are limited to 107 characters."""
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Overrides for one stage, e.g. `{ingest: {partition: cpu, gpus_per_node: 0}}`; for pipelines."""

    @property
    def gpus(self) -> int:
        """GPUs on each node, however they are asked for."""
        return self.gpus_per_node or sum(number for _, number in gpus(self.gres or ""))

    def of(self, stage: str) -> "SlurmConfig":
        """What a job of that stage asks for."""
        return type(self)(**self.model_dump(exclude={"stages"}) | self.stages.get(stage, {}))

    @model_validator(mode="after")
    def _asks_once(self) -> "SlurmConfig":
        require_no_shard(self.gres or "")
        if self.gres and self.gpus_per_node:
            raise ValueError("gres and gpus_per_node both request GPUs; set only one")
        if self.warn_s > max(0.2 * 60 * self.time_min, 600) or self.warn_s >= 60 * self.time_min:
            raise ValueError(
                f"warn_s={self.warn_s} is too long for time_min={self.time_min}; use at most a fifth of the time, or "
                "ten minutes"
            )
        left_s = 60 * self.time_min - self.warn_s - _EARLY_S
        if left_s < _START_S:
            raise ValueError(
                f"time_min={self.time_min} is too short: of {60 * self.time_min} s, warn_s={self.warn_s} s are after "
                f"SLURM's signal, which may come {_EARLY_S} s early; {max(left_s, 0)} s are left, and startup alone "
                f"takes up to {_START_S} s. Set time_min to {-(-(self.warn_s + _EARLY_S + _START_S) // 60)} or more, "
                "or lower warn_s"
            )
        return self

    @model_validator(mode="after")
    def _stages_make_sense(self) -> "SlurmConfig":
        for stage, asked in self.stages.items():
            if stage not in STAGES:
                raise ValueError(f"stages.{stage}: there is no such stage; choose from {', '.join(STAGES)}")
            for name in asked.keys() - (type(self).model_fields.keys() - _COMMON):
                raise ValueError(f"stages.{stage}.{name}: not a setting that can be overridden per stage")
            self.of(stage)
        return self


Executor = Literal["slurm", "local"]
"""Where a job runs: submitted with sbatch, or as a background process on this machine."""
