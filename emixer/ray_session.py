"""Joining a Ray cluster, or starting one on this machine. The one place that calls ray.init."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import ray

from cluster.node.ray_node import heap_mb, store_mb
from cluster.slurm.allocation import OwnShare
from emixer.config import RayConfig
from emixer.errors import ConfigError, EmixerError
from emixer.local_ray import Surroundings, is_on_the_loopback, on_the_loopback, surroundings

logger = logging.getLogger(__name__)

_LOCAL = "local"
"""In the place of an address, as Ray has it: start one here, whatever else runs."""

_STARTS = 3
_ANSWER_S = 10
"""How long a cluster may take to accept a connection."""

# Ray asks for metrics agents and usage reports that a library run by hand in a hospital does not want
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def connect(config: RayConfig) -> Iterator[None]:
    """Connects for the duration of the block; leaves a cluster alone that was already connected.

    Without an address a Ray of this process alone is started. Raises EmixerError when the address does not answer.
    """
    if ray.is_initialized():
        yield
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "RAY_AUTH_MODE" not in os.environ:  # a notice at every start that the secure default is on
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    address = address_of(config)
    with _started(config) if address is None else _joined(address):
        quiet_data()
        yield


@contextmanager
def _joined(address: str) -> Iterator[None]:
    try:
        _require_listener(address)
        with on_the_loopback() if is_on_the_loopback(address) else nullcontext():
            ray.init(address=address, **_quietly())
    except (OSError, ray.exceptions.RaySystemError) as error:
        raise EmixerError(
            f"No Ray cluster answers at {address} ({error}). "
            "Check that it runs (`ray status --address ...`), or unset ray.address and RAY_ADDRESS to start one here."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raises OSError where nothing listens at HOST:PORT. Ray itself would try for ten minutes and more, and end this
    process. Addresses of other forms (`auto`) are left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()


@contextmanager
def _started(config: RayConfig) -> Iterator[None]:
    """On this machine, for this process alone."""
    with ExitStack() as stack:
        for left in reversed(range(_STARTS)):
            if _starts(stack.enter_context(surroundings(keep_logs=_is_debugging())), config):
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


def _starts(own: Surroundings, config: RayConfig) -> bool:
    """False when the machine was too busy for it."""
    try:
        with own.starting():
            # without "local" ray.init joins whatever cluster of anybody it finds on this machine
            ray.init(address=_LOCAL, _temp_dir=str(own.folder), **_share(config), **_quietly())
    except Exception as error:
        if "timed out during startup" not in str(error):  # Ray has no class of its own for it
            raise
        return False
    return True


def address_of(config: RayConfig) -> str | None:
    """Of the cluster to join, from the config or, as every Ray program has it, RAY_ADDRESS; None: start one here."""
    address = config.address or os.environ.get("RAY_ADDRESS") or _LOCAL
    return None if address == _LOCAL else address


def capacity() -> dict[str, float]:
    """Resources of the connected cluster by name; of one that grows, as far as it says that it may."""
    now: dict[str, float] = ray.cluster_resources()
    grown = ray._private.state.state.get_max_resources_from_cluster_config() or {}
    return {name: max(now.get(name, 0), grown.get(name, 0)) for name in {*now, *grown}}


def is_one_machine() -> bool:
    """Whether the connected cluster is a single node and will not grow."""
    grows = ray._private.state.state.get_max_resources_from_cluster_config()
    return not grows and sum(node["Alive"] for node in ray.nodes()) == 1


def require_cpus(wanted: int, reason: str) -> None:
    """Raises ConfigError where that many CPUs will never be there: Ray would wait for them without a word.

    reason: what needs them, and what to do. Several machines may become more; one that does not grow stays one.
    """
    cpus = capacity().get("CPU", 0)
    if wanted > cpus and is_one_machine():
        raise ConfigError(f"Ray has {cpus:g} CPUs here but needs {wanted} to start: {reason}")


def free_abandoned() -> None:
    """Frees what trainings of this program hold that nobody leads any more.

    Ray Train reserves places for its workers; when the process that started a training dies, its controller and its
    workers end, and their places stay reserved until the whole program is over. Ray's own cleaner asks the dashboard,
    which is off here.
    """
    from ray._raylet import ActorID, PlacementGroupID
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    try:
        table = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    except ray.exceptions.RayError as error:  # of a cluster that is short of breath; it is asked again
        logger.debug("The cluster's places could not be listed: %s", error)
        return
    for packed in table:
        found = PlacementGroupTableData.FromString(packed)
        is_ours = found.creator_job_id.hex() == job and found.state != PlacementGroupTableData.REMOVED
        has_lost_its_creator = found.creator_actor_dead and not ActorID(found.creator_actor_id).is_nil()
        if is_ours and has_lost_its_creator:
            remove_placement_group(PlacementGroup(PlacementGroupID(found.placement_group_id)))


def _share(config: RayConfig) -> dict[str, Any]:
    """What of this machine Ray may use: the CPUs that we may run on; inside of a SLURM job, what SLURM gave us, after
    which Ray does not ask; and what the config says."""
    cpus = len(os.sched_getaffinity(0))
    share: dict[str, Any] = {"include_dashboard": False, "num_cpus": config.num_cpus or cpus}
    job = OwnShare.from_environment()
    if job is not None:
        share["num_cpus"] = config.num_cpus or min(job.cpus, cpus)
        if job.memory_mb is not None:
            share["_memory"] = heap_mb(job.memory_mb) * 2**20
            share["object_store_memory"] = store_mb(job.memory_mb) * 2**20
    if config.num_gpus is not None:
        share["num_gpus"] = config.num_gpus
    if config.object_store_mb is not None:
        share["object_store_memory"] = config.object_store_mb * 2**20
    return share


def _quietly() -> dict[str, Any]:
    # Ray's own processes write much into the driver's terminal, over the progress line; what a user needs is raised
    return {"log_to_driver": _is_debugging(), "logging_level": logging.WARNING}


def _is_debugging() -> bool:
    return logging.getLogger("emixer").isEnabledFor(logging.DEBUG)


def quiet_data() -> None:
    """Makes Ray Data raise errors as they are, and say no more than that, in this process."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # else the EmixerError of a task arrives as text in a traceback
    # Ray Data logs the traceback of an error that it then raises; the raised one is what the user is shown
    logging.getLogger("ray.data").setLevel(logging.WARNING if _is_debugging() else logging.CRITICAL)
