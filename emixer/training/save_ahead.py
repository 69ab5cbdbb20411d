"""Request a checkpoint when a run's workers are about to move, so that little work is repeated.

They move when a node is drained (its SLURM job ends soon, or is preempted) and, if their number may change, when the
cluster has room for more. Ray Train then restarts them from the last checkpoint.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from emixer.background import repeated
from emixer.checkpoint import find_checkpoint
from emixer.run_folder import RunFolder

logger = logging.getLogger(__name__)
_LOOK_EVERY_S, _ASK_EVERY_S = 2.0, 15.0


@contextmanager
def save_before_moves(
    folder: RunFolder, resources_per_worker: Mapping[str, float], most: int, resize_every_s: float
) -> Iterator[None]:
    """Watch the cluster from the driver for the duration of the block.

    most: maximum number of workers; with fewer, the run checks every `resize_every_s` for room for more.
    """

    def watch() -> float | None:
        try:
            if _draining():
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


def _draining() -> Mapping[str, int]:
    """Return the nodes that accept no more work, with their deadlines."""
    found: dict[str, int] = ray._private.state.state.get_draining_nodes()
    return found


def _workers(folder: RunFolder) -> float:
    """Return the number of workers at the last checkpoint; before the first, infinity: there is nothing to lose."""
    found = find_checkpoint(folder.checkpoints, "last")
    return math.inf if found is None else int(found.state["position"]["num_workers"])


def _room(resources_per_worker: Mapping[str, float]) -> int:
    """Return how many more workers fit on the cluster, each whole on one node."""
    nodes = ray._private.state.available_resources_per_node().values()
    return sum(min(int(free.get(name, 0) // share) for name, share in resources_per_worker.items()) for free in nodes)
