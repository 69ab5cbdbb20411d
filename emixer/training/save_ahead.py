"""Asks a run for a checkpoint when its workers are about to move, so that little is done twice.

They move when a node is drained (its SLURM job ends soon, or is preempted) and, if their number may change, when the
cluster has room for more. Ray Train then starts them again from the last checkpoint.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray

from emixer.run_folder import RunFolder

_LOOK_EVERY_S, _ASK_EVERY_S = 2.0, 15.0


@contextmanager
def save_before_moves(folder: RunFolder, resources_per_worker: Mapping[str, float], may_grow: bool) -> Iterator[None]:
    """Watches the cluster from the driver for the duration of the block."""
    stop = threading.Event()

    def watch() -> None:
        wait_s = _LOOK_EVERY_S
        while not stop.wait(wait_s):
            moving = bool(_draining()) or (may_grow and _has_room(resources_per_worker))
            if moving:
                folder.request_save()
            wait_s = _ASK_EVERY_S if moving else _LOOK_EVERY_S

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _draining() -> Mapping[str, int]:
    """Nodes that take no more work, with their deadlines."""
    found: dict[str, int] = ray._private.state.state.get_draining_nodes()
    return found


def _has_room(resources_per_worker: Mapping[str, float]) -> bool:
    free = ray.available_resources()
    return all(free.get(name, 0) >= share for name, share in resources_per_worker.items())
