"""Config of Ray's autoscaler (v2), derived from a cluster's config."""

import shlex
import sys
from typing import Any

from cluster.config import Ask, ClusterConfig, NodeType
from cluster.node.ray_node import heap_mb
from cluster.slurm.job_registry import CLEANUP, HEAD, comment, key_of

_COMMANDS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files",
)  # fmt: skip
_BOUND_TO_NODES = ("--nodelist", "--exclude", "--exclusive")
"""Options that the cleanup job does not take over from the head, whose node may be gone."""
_FOREVER_S = 10**8


def autoscaling_config(config: ClusterConfig, attempt: str, address: str) -> dict[str, Any]:
    """The tree of `ray start --autoscaling-config`. attempt: which start of the cluster it is for;
    address: of its head."""
    workers = {name: _node_type(node_type) for name, node_type in config.node_types.items()}
    head = {"resources": {"CPU": config.head.offers_cpus}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    return {
        "cluster_name": config.name,
        "max_workers": sum(node_type.max for node_type in config.node_types.values()),
        "upscaling_speed": 10_000,  # all that is needed at once: it is SLURM that makes them queue
        "idle_timeout_minutes": config.idle_timeout_s / 60,
        "provider": {
            "type": "external",
            "module": "cluster.head.provider.SlurmNodeProvider",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
            "folder": str(config.home),
            "attempt": attempt,
            "key": key_of(config.home),
            "address": address,
            "pending_timeout_s": config.pending_timeout_s,
            "poll_s": config.poll_s,
            "node_types": {
                name: {
                    "max": node_type.max,
                    "min": node_type.min,
                    "options": worker_options(name, node_type, config),
                    "script": worker_script(name, config, attempt),
                    "resources": workers[name]["resources"],
                }
                for name, node_type in config.node_types.items()
            },
        },
        "head_node_type": HEAD,
        "available_node_types": {HEAD: head, **workers},
        **{key: [] for key in _COMMANDS},  # Ray starts nothing over ssh here, but wants to be told so
        "auth": {},
        "file_mounts": {},
    }


def autoscaler_environment(config: ClusterConfig) -> dict[str, str]:
    """Settings of the autoscaler that Ray reads from the environment of the head."""
    return {
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "0",  # whole seconds only: see the provider
        "RAY_gcs_pull_resource_loads_period_milliseconds": "200",  # how often nodes are asked what waits
        "AUTOSCALER_MAX_LAUNCH_BATCH": "1",  # an error then belongs to one job
        "AUTOSCALER_MAX_CONCURRENT_LAUNCHES": "200",  # requests that are held must not keep others waiting
        "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S": str(_FOREVER_S),  # the provider knows better
        "RAY_AUTOSCALER_RECONCILE_REQUEST_STATUS_TIMEOUT_S": "120",
        "RAY_AUTOSCALER_RECONCILE_TERMINATING_STATUS_TIMEOUT_S": "60",
        "RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S": str(int(config.idle_timeout_s)),
    }


def _node_type(node_type: NodeType) -> dict[str, Any]:
    resources: dict[str, float] = {"CPU": node_type.cpus, "memory": heap_mb(node_type.memory_mb) * 2**20}
    if node_type.gpus:
        resources["GPU"] = node_type.gpus
    tree: dict[str, Any] = {
        "resources": resources | node_type.resources,
        "node_config": {},
        "min_workers": node_type.min,
        "max_workers": node_type.max,
        "priority": node_type.priority,
    }
    if node_type.idle_timeout_s is not None:
        tree["idle_timeout_s"] = node_type.idle_timeout_s
    return tree


def worker_options(name: str, node_type: NodeType, config: ClusterConfig) -> list[str]:
    """Options of sbatch for a worker, without its comment."""
    gpus = [f"--gpus-per-node={node_type.gpus}"] if node_type.gpus and not node_type.gres else []
    return [
        *_options(f"ray-{config.name}-{name}", node_type, config, f"%j-{name}"), *gpus,
        f"--signal=B:USR2@{config.warn_s}", *node_type.extra,
    ]  # fmt: skip


def worker_script(name: str, config: ClusterConfig, attempt: str) -> str:
    """The script of a worker."""
    run = shlex.join([sys.executable, "-m", "cluster.worker", str(config.home), attempt, name])
    return _script(config, f"exec {run}")


def head_options(config: ClusterConfig, attempt: str) -> list[str]:
    """Options of sbatch for the head."""
    options = _options(f"ray-{config.name}-{HEAD}", config.head, config, f"%j-{HEAD}")
    return [*options, f"--comment={comment(key_of(config.home), attempt, HEAD)}", *config.head.extra]


def head_script(config: ClusterConfig, attempt: str) -> str:
    """The script of the head. The shell passes SIGTERM on, outlives a head that is killed, and takes its workers back.

    Where SLURM tracks processes by cgroups, SIGTERM reaches the shell alone, which handles no signal while a program
    runs in its foreground.
    """
    run = shlex.join([sys.executable, "-m", "cluster.head", str(config.home), attempt])
    lines = [
        f"{run} &", "head=$!", "trap 'kill -TERM $head 2>/dev/null || :' TERM",
        "while kill -0 $head 2>/dev/null; do wait $head || :; done",  # a signal ends `wait` early
        "wait $head && code=0 || code=$?", _cleanup(config, attempt), "exit $code",  # as `setup` may say `set -e`
    ]  # fmt: skip
    return _script(config, "\n".join(lines))


def cleanup_options(config: ClusterConfig, attempt: str, head_job: str) -> list[str]:
    """Options of sbatch for the job that waits for the head to end."""
    ask = config.head.model_copy(update={"cpus": 1, "memory_gb": 0.5, "time_min": 2})
    options = _options(f"ray-{config.name}-{CLEANUP}", ask, config, f"%j-{CLEANUP}")
    return [
        *options, f"--dependency=afterany:{head_job}", f"--comment={comment(key_of(config.home), attempt, CLEANUP)}",
        *(option for option in config.head.extra if not option.startswith(_BOUND_TO_NODES)),
    ]  # fmt: skip


def cleanup_script(config: ClusterConfig, attempt: str) -> str:
    """The script of that job."""
    return _script(config, _cleanup(config, attempt))


def _cleanup(config: ClusterConfig, attempt: str) -> str:
    return shlex.join([sys.executable, "-m", "cluster.cleanup", str(config.home), attempt])


def _options(job_name: str, ask: Ask, config: ClusterConfig, log: str) -> list[str]:
    named = {
        "partition": ask.partition, "account": ask.account, "qos": ask.qos, "constraint": ask.constraint,
        "gres": ask.gres,
    }  # fmt: skip
    return [
        f"--job-name={job_name}", "--nodes=1", "--ntasks=1", f"--cpus-per-task={ask.cpus}", f"--mem={ask.memory_mb}M",
        f"--time={ask.time_min}", *(f"--{name}={value}" for name, value in named.items() if value is not None),
        f"--output={config.home / 'logs' / log}.out", "--open-mode=append", "--no-requeue",
    ]  # fmt: skip


def _script(config: ClusterConfig, last: str) -> str:
    return "\n".join(["#!/bin/bash", *config.setup, last, ""])
