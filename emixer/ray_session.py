"""Join a Ray cluster, or start one on this machine. The only place that calls ray.init."""

import logging
import math
import os
import platform
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import ray

from cluster.node.ray_node import heap_mb, store_mb
from cluster.slurm.allocation import OwnShare
from emixer import sigterm
from emixer.config import RayConfig
from emixer.errors import ConfigError, EmixerError
from emixer.local_ray import RayEnvironment, is_on_the_loopback, on_the_loopback, ray_environment

logger = logging.getLogger(__name__)

_LOCAL = "local"
"""Used in place of an address, as in Ray: start one here, whatever else is running."""

_STARTS = 3
_ANSWER_S = 10
"""How long a cluster may take to accept a connection."""
_CGROUP = Path("/sys/fs/cgroup")
"""Where a container sees its own limits."""

# Ray's metrics agents and usage reports are unwanted in a library run by hand in a hospital
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": "3",  # endless otherwise, in silence: of a task that needs more memory than there is
}


@contextmanager
def connect(config: RayConfig) -> Iterator[None]:
    """Connect to Ray for the duration of the block; an existing connection is left as it is.

    Without an address, a Ray private to this process is started. Raises EmixerError when the address does not answer.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "RAY_AUTH_MODE" not in os.environ:  # no notice at every start that the secure default is on
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    address = address_of(config)
    with sigterm.ends_this_process(), _started(config) if address is None else _joined(address):
        quiet_data()
        yield


def keep_data_actors_here() -> None:
    """Has Ray Data's two actors that outlive a program run on this node, and not on whichever worker reads first.

    Ray Data (2.60) starts them where it is first used and never ends them, so that an autoscaling cluster would keep
    that worker's node, which is never idle.
    """
    if is_one_machine():
        return
    from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import (
        get_or_create_autoscaling_coordinator,
    )
    from ray.data._internal.stats import get_or_create_stats_actor

    get_or_create_stats_actor()
    get_or_create_autoscaling_coordinator()


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        _require_listener(address)
        with sigterm.put_back(), on_the_loopback() if is_on_the_loopback(address) else nullcontext():
            ray.init(address=address, **_quietly())
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        raise EmixerError(
            f"No Ray cluster answers at {address}, or it refuses this process ({_reason(error)}). Check that it runs "
            "(`ray status --address ...`); if it has a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE "
            "(`python -m cluster env` prints them); or unset ray.address and RAY_ADDRESS to start one here."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reason(error: Exception) -> str:
    """Return why `ray.init` failed, in one line. Ray (2.60) raises a ConnectionError without the reason; its cause has
    it, as the last line of a printed traceback if the cluster refused this process."""
    words = str(error.__cause__ or error).strip()
    return " ".join(words.splitlines()[-1].split() if "Traceback (most recent" in words else words.split())


def _require_listener(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT. Ray itself would retry for ten minutes or more, then end this
    process. Addresses of other forms (`auto`) are left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()


@contextmanager
def _started(config: RayConfig) -> Iterator[None]:
    """Run a Ray on this machine, for this process only."""
    if (system := platform.system()) != "Linux":
        raise EmixerError(
            f"emixer's stages run on Linux, and this is {system}. "
            "Use a Linux machine, or the Docker image (docs/hpc.md)."
        )
    with ExitStack() as stack:
        for left in reversed(range(_STARTS)):
            if _starts(stack.enter_context(ray_environment(keep_logs=_is_debugging())), config):
                break
            stack.close()
            load = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs"
            if not left:
                raise EmixerError(
                    f"Ray did not start on this machine within its 30 s, {_STARTS} times ({load}). "
                    "Run the command again when the machine is less busy, or use --ray-address."
                )
            logger.warning("Ray did not start within its 30 s (%s); trying again.", load)
        try:
            yield
        finally:
            ray.shutdown()


def _starts(own: RayEnvironment, config: RayConfig) -> bool:
    """Start a Ray. Returns False if the machine was too busy."""
    try:
        with sigterm.put_back(), own.starting():
            # without "local", ray.init joins any cluster that it finds on this machine, whoever owns it
            ray.init(address=_LOCAL, _temp_dir=str(own.folder), **_share(config), **_quietly())
    except Exception as error:
        if "timed out during startup" not in str(error):  # Ray has no exception class for this
            raise
        return False
    return True


def address_of(config: RayConfig) -> str | None:
    """Return the address to join, from the config or, as in any Ray program, RAY_ADDRESS; None: start one here."""
    address = config.address or os.environ.get("RAY_ADDRESS") or _LOCAL
    return None if address == _LOCAL else address


def capacity() -> dict[str, float]:
    """Return the resources of the connected cluster by name; for an autoscaling one, the maximum that it declares."""
    now: dict[str, float] = ray.cluster_resources()
    grown = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return {name: max(now.get(name, 0), grown.get(name, 0)) for name in {*now, *grown}}


def is_one_machine() -> bool:
    """Return whether the connected cluster is a single node and will not grow."""
    grows = ray._private.state.state.get_max_resources_from_cluster_config()
    return not grows and sum(node["Alive"] for node in ray.nodes()) == 1


def require_resource(name: Literal["CPU", "GPU"], wanted: float, reason: str) -> None:
    """Raise ConfigError if that many CPUs or GPUs will never be available: Ray would wait for them silently.

    reason: what needs them, and what to do. A cluster of several machines may still grow, and is not checked.
    """
    there = capacity().get(name, 0)
    if wanted > there and is_one_machine():
        raise ConfigError(f"Ray has {there:g} {name}s here but needs {wanted:g} to start: {reason}")


def free_abandoned() -> None:
    """Free the resources still reserved by this program's orphaned training runs.

    Ray Train reserves resources for its workers; when the process that started a run dies, its controller and workers
    end, but their resources stay reserved until the whole program ends. Ray's own cleanup asks the dashboard, which is
    off here.
    """
    from ray._raylet import ActorID, PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    try:
        groups = _own_placement_groups()
    except ray.exceptions.RayError as error:  # the cluster is overloaded; it is asked again
        logger.debug("The cluster's placement groups could not be listed: %s", error)
        return
    for found in groups:
        if found.creator_actor_dead and not ActorID(found.creator_actor_id).is_nil():
            remove_placement_group(PlacementGroup(PlacementGroupID(found.placement_group_id)))


def nodes_in_use() -> frozenset[str]:
    """Return the ids of the nodes on which this program's training runs have reserved resources."""
    return frozenset(
        bundle.node_id.hex() for found in _own_placement_groups() for bundle in found.bundles if bundle.node_id
    )


def _own_placement_groups() -> list[Any]:
    """Return this program's placement groups, as Ray's control store describes them."""
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    job = ray.get_runtime_context().get_job_id()
    table = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    found = map(PlacementGroupTableData.FromString, table)
    return [
        each for each in found if each.creator_job_id.hex() == job and each.state != PlacementGroupTableData.REMOVED
    ]


def usable_cpus() -> int:
    """Return how many CPUs this process may use: those that it is bound to, or fewer if its container has a limit.

    `docker run --cpus` and Kubernetes limit the CPU time, and show all CPUs. As in Ray, fractions are rounded down.
    """
    if not hasattr(os, "sched_getaffinity"):  # not Linux, where only `emixer doctor` gets here
        return os.cpu_count() or 1
    return max(1, int(min(len(os.sched_getaffinity(0)), _limit_of_container())))


def _limit_of_container() -> float:
    """Return the CPUs that cgroup v2 or v1 allows in this container; infinity if it has no limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # cgroup of the other version; no limit: "max"
            quota_us, period_us = map(int, " ".join((_CGROUP / name).read_text() for name in names).split())
            if quota_us > 0:
                return quota_us / period_us
    return math.inf


def _share(config: RayConfig) -> dict[str, Any]:
    """Return what Ray may use of this machine: the CPUs available to us; in a SLURM job, its allocation, which Ray
    does not query; and what the config sets.

    NVIDIA's driver shows Ray every GPU of a node, also those of others, unless SLURM confines jobs by cgroups.
    """
    cpus = usable_cpus()
    share: dict[str, Any] = {"include_dashboard": False, "num_cpus": config.num_cpus or cpus}
    job = OwnShare.from_environment()
    if job is not None:
        share["num_cpus"] = config.num_cpus or min(job.cpus, cpus)
        if job.gpus is not None:
            share["num_gpus"] = job.gpus
        if job.memory_mb is not None:
            share["_memory"] = heap_mb(job.memory_mb) * 2**20
            share["object_store_memory"] = store_mb(job.memory_mb) * 2**20
    if config.num_gpus is not None:
        share["num_gpus"] = config.num_gpus
    if config.object_store_mb is not None:
        share["object_store_memory"] = config.object_store_mb * 2**20
    return share


def _quietly() -> dict[str, Any]:
    # Ray's own processes write a lot to the driver's terminal, over the progress line; what a user needs is raised
    return {"log_to_driver": _is_debugging(), "logging_level": logging.WARNING}


def _is_debugging() -> bool:
    return logging.getLogger("emixer").isEnabledFor(logging.DEBUG)


def quiet_data() -> None:
    """Make Ray Data in this process raise errors unchanged, and print nothing else."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # else a task's EmixerError arrives as text in a traceback
    # Ray Data logs the traceback of an error that it then raises; the user is shown the raised one
    logging.getLogger("ray.data").setLevel(logging.WARNING if _is_debugging() else logging.CRITICAL)
