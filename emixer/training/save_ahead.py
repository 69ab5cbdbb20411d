"""Request a checkpoint when a run's workers are about to move, so that little work is repeated.

They move when a node of theirs is drained (its SLURM job ends soon, or is preempted) and, if their number may change,
when the cluster has room for more. Ray Train then restarts them from the last checkpoint.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager

import ray

from emixer.background import repeated
from emixer.checkpoint import find_checkpoint
from emixer.ray_session import nodes_in_use
from emixer.run_folder import RunFolder

logger = logging.getLogger(__name__)
_LOOK_EVERY_S, _ASK_EVERY_S = 2.0, 15.0
_LAST_SAVE_S = 45.0
"""Before a node's deadline, for a second checkpoint."""


@contextmanager
def save_before_moves(
    folder: RunFolder, resources_per_worker: Mapping[str, float], most: int, resize_every_s: float
) -> Iterator[None]:
    """Watch the cluster from the driver for the duration of the block.

    most: maximum number of workers; with fewer, the run checks every `resize_every_s` for room for more.
    """

    told: set[tuple[str, bool]] = set()

    def watch() -> float | None:
        try:
            draining = _draining(nodes_in_use())
            if not draining <= told:
                told.update(draining)
                folder.request_save()
                return _ASK_EVERY_S
            if _workers(folder) < most and _room(resources_per_worker):
                folder.request_save()
                return max(_ASK_EVERY_S, resize_every_s / 2)
        except Exception as error:  # noqa: BLE001 - an early checkpoint is only an optimization
            logger.debug("The cluster could not be watched: %s", error)
        return None

    with repeated(watch, _LOOK_EVERY_S):
        yield


def _draining(nodes: Set[str]) -> Set[tuple[str, bool]]:
    """Return those of the nodes that accept no more work, each once more when little of its time is left."""
    deadlines: dict[str, int] = ray._private.state.state.get_draining_nodes()
    soon_ms = (time.time() + _LAST_SAVE_S) * 1000
    return {(node, 0 < deadline < soon_ms) for node, deadline in deadlines.items() if node in nodes}


def _workers(folder: RunFolder) -> float:
    """Return the number of workers at the last checkpoint. Before the first: 0, or infinity if there is nothing to
    lose."""
    found = find_checkpoint(folder.checkpoints, "last")
    if found is None:
        return math.inf if folder.last_metrics() is None else 0
    return int(found.state["position"]["num_workers"])


def _room(resources_per_worker: Mapping[str, float]) -> int:
    """Return how many more workers fit on the cluster, each whole on one node."""
    nodes = ray._private.state.available_resources_per_node().values()
    return sum(min(int(free.get(name, 0) // share) for name, share in resources_per_worker.items()) for free in nodes)
