"""What SLURM gave this task: which job, which nodes, how many CPUs and GPUs, how much memory.

Read from the environment that srun sets. Ray must be told, since it would take the whole machine for its own.
"""

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cluster import slurm


@dataclass(frozen=True)
class Allocation:
    """One task's view of its job; there is one task a node."""

    job_id: str
    restarts: int
    """How often SLURM has requeued the job."""
    rank: int
    """Of this task; 0 is the head."""
    node: str
    """Name of this node, as SLURM has it."""
    nodes: tuple[str, ...]
    """All nodes of the job, in order."""
    cpus: int
    """On this node."""
    gpus: int
    """On this node."""
    memory_mb: int | None
    """On this node; None where SLURM does not share out memory."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """The allocation that this process runs in; None outside of a SLURM job step."""
        if "SLURM_JOB_ID" not in environment or "SLURM_PROCID" not in environment:
            return None
        cpus = int(environment.get("SLURM_CPUS_PER_TASK") or environment["SLURM_CPUS_ON_NODE"])
        return cls(
            job_id=environment["SLURM_JOB_ID"],
            restarts=int(environment.get("SLURM_RESTART_COUNT", 0)),
            rank=int(environment["SLURM_PROCID"]),
            node=environment.get("SLURMD_NODENAME", socket.gethostname()),
            nodes=_host_names(environment["SLURM_JOB_NODELIST"]),
            cpus=cpus,
            gpus=_gpus(environment),
            memory_mb=_memory_mb(environment, cpus),
        )


@dataclass(frozen=True)
class OwnShare:
    """What of this machine is a process's own inside of a job, whoever started it: srun, the shell of salloc, a batch
    script."""

    cpus: int
    gpus: int | None
    """0 where SLURM gave none; None: those that are visible."""
    memory_mb: int | None
    """None where SLURM does not share out memory."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """That of one task of a step; outside of a step, all that the job has on one node. None outside of a job.

        SLURM is asked for the memory, of which srun tells its tasks nothing.
        """
        job_id = environment.get("SLURM_JOB_ID")
        if job_id is None:
            return None
        step = environment.get("SLURM_STEP_ID")
        on_node = int(environment.get("SLURM_CPUS_ON_NODE") or _first(environment.get("SLURM_JOB_CPUS_PER_NODE", "1")))
        tasks = 1 if step is None else _first(environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))
        memory_mb = slurm.memory_mb(job_id, step) or _memory_mb(environment, on_node)
        gpus = 0 if withholds_gpus(environment) else None
        return cls(max(on_node // tasks, 1), gpus, None if memory_mb is None else memory_mb // tasks)


def withholds_gpus(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is inside of a job to which SLURM gave no GPU, whatever the node's driver shows."""
    return "SLURM_JOB_ID" in environment and not _names_gpus(environment) and "CUDA_VISIBLE_DEVICES" not in environment


def _first(counts: str) -> int:
    """Of `4(x2),3`, SLURM's way to write 4, 4, 3."""
    return int(re.split(r"[(,]", counts)[0])


def _host_names(node_list: str) -> tuple[str, ...]:
    if "[" not in node_list:
        return tuple(node_list.split(","))
    shown = subprocess.run(["scontrol", "show", "hostnames", node_list], capture_output=True, text=True, check=True)  # noqa: S607
    return tuple(shown.stdout.split())


def _gpus(environment: Mapping[str, str]) -> int:
    """SLURM names the GPUs of a step in CUDA_VISIBLE_DEVICES, by numbers or UUIDs."""
    if "SLURM_GPUS_ON_NODE" in environment:
        return int(environment["SLURM_GPUS_ON_NODE"])
    if not _names_gpus(environment):
        return 0
    return len([device for device in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if device])


def _names_gpus(environment: Mapping[str, str]) -> bool:
    """Whether SLURM has said anything of GPUs, in any of its variables, which differ between its versions."""
    return any(name.startswith("SLURM") and "GPU" in name for name in environment)


def _memory_mb(environment: Mapping[str, str], cpus: int) -> int | None:
    """0 means all of the node's: then there is nothing to share out."""
    if int(environment.get("SLURM_MEM_PER_NODE", 0)):
        return int(environment["SLURM_MEM_PER_NODE"])
    if int(environment.get("SLURM_MEM_PER_CPU", 0)):
        return int(environment["SLURM_MEM_PER_CPU"]) * cpus
    return None
