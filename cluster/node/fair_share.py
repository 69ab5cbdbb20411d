"""An equal share of the machine for Ray's workers: what stands in their environment, wherever a Ray is started.

Ray raises the niceness of its workers by 15 unless it is told otherwise. Beside one ordinary busy process on each core
such a worker gets some 3 % of it, so that a training next to a colleague's job nearly stands still.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, MutableMapping

logger = logging.getLogger(__name__)

NICENESS = "RAY_worker_niceness"
_LEAST, _MOST = -20, 19


def worker_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """To be laid over `environment` for the processes of a Ray that is about to be started.

    Workers run with the niceness of who starts Ray, plus what the user put into RAY_worker_niceness. What does not work
    there is said in one line and left out: Ray would crash or wait for ever.
    """
    return {NICENESS: str(_added_niceness(environment.get(NICENESS, "")))}


def mend(environment: MutableMapping[str, str] = os.environ) -> None:
    """Takes out what does not work, before Ray is imported: this very process would end with a segmentation fault."""
    if NICENESS in environment:
        environment.update(worker_environment(environment))


def _added_niceness(wanted: str) -> int:
    if not wanted.strip():
        return 0
    try:
        added = int(wanted)
    except ValueError:
        added = _MOST + 1
    if not _LEAST <= added <= _MOST:
        logger.warning(
            "%s=%r is not a whole number from %d to %d. Ray's workers run with the niceness of this process instead.",
            NICENESS, wanted, _LEAST, _MOST,
        )  # fmt: skip
        return 0
    if added < 0 and not _may_add(added):
        logger.warning(
            "%s=%d: niceness may not be lowered on this machine (see `ulimit -e`). Ray's workers run with the niceness "
            "of this process instead.",
            NICENESS, added,
        )  # fmt: skip
        return 0
    return added


def _may_add(niceness: int) -> bool:
    """Tried out in a process of its own: rights, limits and containers all have a say."""
    tried = subprocess.run(
        [sys.executable, "-ISc", f"import os; os.nice({niceness})"], stderr=subprocess.DEVNULL, check=False
    )
    return tried.returncode == 0
