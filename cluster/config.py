"""The YAML of a cluster: its head, its types of nodes, when it grows and shrinks.

Unknown keys, wrong types and contradictions are refused before anything is submitted.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from cluster.errors import ClusterError
from cluster.node.ray_node import require_short_disk_path
from cluster.slurm.gres import gpus, require_no_shard
from cluster.slurm.job_registry import CLEANUP, HEAD
from cluster.slurm.options import SbatchOptions

DEFAULT_FOLDER = Path("~/.ray-on-slurm")
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
"""Lower case, digits and dashes: it stands in names and comments of jobs."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML reads `yes` as true, which would pass for 1
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("must not be true or false")
        return value


class Ask(_Section):
    """What a one-node job requests from SLURM. Each setting is an sbatch option."""

    partition: str | None = None
    """--partition. None: the site's default."""
    account: str | None = None
    """--account, which is charged for the job."""
    qos: str | None = None
    """--qos (quality of service)."""
    constraint: str | None = None
    """--constraint on node features, e.g. `a100`."""
    gres: str | None = None
    """--gres, for sites that name GPUs by type, e.g. `gpu:a100:4`."""
    cpus: int = Field(4, ge=1)
    """--cpus-per-task: CPUs of the node."""
    memory_gb: float = Field(16, gt=0)
    """--mem: memory of the node [GB]."""
    time_min: int = Field(24 * 60, ge=1)
    """--time [min]."""
    extra: SbatchOptions = ()
    """Further sbatch options, e.g. `[--exclusive, --reservation=maintenance]`."""

    @property
    def memory_mb(self) -> int:
        """Memory of the node [MB]."""
        return round(self.memory_gb * 1024)


class HeadConfig(Ask):
    """The head: Ray's own services and submitted programs. Runs no tasks unless `offers_cpus` is set."""

    where: Literal["job", "here"] = "job"
    """`job`: a separate job. `here`: a process on this machine, if the site allows it and nodes can reach it."""
    cpus: int = Field(2, ge=1)
    """--cpus-per-task: CPUs of the head."""
    memory_gb: float = Field(8, gt=0)
    """--mem: memory of the head [GB]."""
    offers_cpus: int = Field(0, ge=0)
    """CPUs for Ray tasks on the head; with 0 all work runs on workers."""
    cleanup_job: bool = True
    """Whether a two-minute job waits for the head to end, to cancel pending jobs if the head's node dies."""


class NodeType(Ask):
    """One kind of worker node, and how many of it there may be."""

    gpus: int = Field(0, ge=0)
    """--gpus-per-node, and the number of GPUs given to Ray; with `gres` only the latter."""
    min: int = Field(0, ge=0)
    """Nodes kept even without work."""
    max: int = Field(ge=1)
    """Maximum jobs of this type at a time, including pending and leaving ones."""
    priority: int = 0
    """If several types fit, those of higher priority are requested first."""
    idle_timeout_s: float | None = Field(None, gt=0)
    """Idle time after which a node is released [s]. None: that of the cluster."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom Ray resources that each node offers."""

    @model_validator(mode="after")
    def _consistent(self) -> "NodeType":
        if self.min > self.max:
            raise ValueError(f"min={self.min} is more than max={self.max}")
        require_no_shard(self.gres or "")
        if self.gres and "gpu" in self.gres and not self.gpus:
            raise ValueError(f"gres={self.gres} requests GPUs: also set `gpus`, the number of GPUs per node, for Ray")
        asked = sum(number for _, number in gpus(self.gres or ""))
        if self.gres and self.gpus and asked != self.gpus:
            raise ValueError(
                f"gres={self.gres} requests {asked} GPUs per node, but gpus={self.gpus} is what Ray is told: make them "
                "equal"
            )
        reserved = {"CPU", "GPU", "memory", "object_store_memory"} & set(self.resources)
        if reserved:
            raise ValueError(f"resources: {', '.join(sorted(reserved))} is set by cpus, gpus and memory_gb")
        return self


class ClusterConfig(_Section):
    """A cluster."""

    name: Name
    """Name of the cluster; unique per user and folder."""
    folder: Path = Field(DEFAULT_FOLDER, validate_default=True)
    """Folder for the cluster's address, token and logs, visible to all nodes."""
    head: HeadConfig = Field(default_factory=HeadConfig)
    """The head."""
    node_types: dict[Name, NodeType]
    """Types of worker nodes, by name."""
    idle_timeout_s: float = Field(300, gt=0)
    """Idle time after which a node is released, or a pending job that is no longer needed is cancelled [s]."""
    pending_timeout_s: float | None = Field(None, ge=10)
    """Time after which a job that has not joined is cancelled and another suitable type is tried [s]; the type that
    failed is avoided for ten minutes. None: a pending job keeps its place in the queue."""
    warn_s: int = Field(120, ge=30)
    """How long before its time limit a node takes no more work, so that its replacement is requested in time, and how
    long before the head's limit its programs get SIGTERM [s]."""
    poll_s: float = Field(5, ge=1)
    """Interval between squeue calls [s]."""
    setup: tuple[str, ...] = ()
    """Shell lines to run in each job before Ray starts, e.g. `[module load cuda]`."""
    local_disk: Path = Path("/tmp")  # noqa: S108 - a folder of the job's own is made in it
    """Folder on each node for Ray's files; keep it short, since socket paths are limited to 107 characters."""

    @field_validator("folder")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        path = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100 - a link to a shared disk must stay one
        if "%" in str(path) or "\n" in str(path) or "\\" in str(path):
            raise ValueError(f"{path} contains a %, a backslash or a line break, which sbatch would interpret")
        return path

    @model_validator(mode="after")
    def _consistent(self) -> "ClusterConfig":
        if not self.node_types:
            raise ValueError("node_types is empty: give at least one type of worker node")
        for name in (HEAD, CLEANUP):
            if name in self.node_types:
                raise ValueError(f"node_types: the name {name} is reserved; choose another")
        if self.pending_timeout_s is not None and len(self.node_types) == 1:
            raise ValueError(
                "pending_timeout_s cancels a pending job to try another type, but there is only one type: the job "
                "would only lose its place in the queue. Add a type, or remove pending_timeout_s"
            )
        asks: dict[str, Ask] = {f"node_types.{name}": node_type for name, node_type in self.node_types.items()}
        for name, ask in {"head": self.head, **asks}.items():
            if self.warn_s >= 30 * ask.time_min:
                raise ValueError(
                    f"warn_s={self.warn_s} is at least half of the time limit of {name} (time_min={ask.time_min}); "
                    "lower it, or raise time_min"
                )
        require_short_disk_path("local_disk", self.local_disk)
        return self

    @property
    def home(self) -> Path:
        """This cluster's own folder."""
        return self.folder / self.name


def load_config(path: Path, overrides: Sequence[str] = ()) -> ClusterConfig:
    """Reads a YAML file, and `KEY=VALUE` pairs over it with dotted keys. Raises ClusterError."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ClusterError(
            f"{path} cannot be read ({why}). `python -m cluster init` writes a first one for this site."
        ) from error
    except yaml.YAMLError as error:
        raise ClusterError(f"{path} is not valid YAML: {_first_line(error)}") from error
    if not isinstance(tree, dict):
        raise ClusterError(f"{path} has no settings.")
    for override in overrides:
        _set(tree, override)
    return validate(tree, str(path))


def validate(tree: dict[str, Any], origin: str) -> ClusterConfig:
    """The config that a tree of plain values says. Raises ClusterError that names the first thing wrong."""
    try:
        return ClusterConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise ClusterError(f"{origin}: {_in_words(key, first)}") from error


def _in_words(key: str, error: Any) -> str:
    if error["type"] == "extra_forbidden":
        parent, _, name = key.rpartition(".")
        known = list(_model_of(parent).model_fields)
        near = difflib.get_close_matches(name, known, n=1)
        return f"there is no setting {key}. " + (
            f"Did you mean {near[0]}?" if near else f"Valid settings: {', '.join(known)}."
        )
    said = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        said = "must be lower-case letters, digits and dashes, at most 32 characters"
    given = "" if error["type"] in ("missing", "value_error") else f" (given: {error['input']!r})"
    return f"{key}: {said}{given}." if key else f"{said}."


def _model_of(parent: str) -> type[BaseModel]:
    if not parent:
        return ClusterConfig
    return HeadConfig if parent == "head" else NodeType


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ClusterError(f"--set {override}: write KEY=VALUE, e.g. --set node_types.gpu.max=8.")
    *parents, last = key.split(".")
    place = tree
    for parent in parents:
        child = place.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ClusterError(f"--set {override}: {parent} is not a section.")
        place = child
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ClusterError(f"--set {override}: the value is not valid YAML: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
