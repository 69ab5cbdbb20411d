"""One stage in a child process of the task that SLURM started: python -m jobs.run_stage ORDER.json

A separate process, because Ray sets its own signal handlers in every process that joins a cluster, and SLURM's signals
must be handled by the task.
"""

import importlib
import json
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.output import expendable
from emixer import files
from emixer.cli.answer import ExitCode
from emixer.config import validate
from emixer.errors import StorageError, find_emixer_error

STATE_NAME, ORDER_NAME = "state.json", "order.json"


def run_stage(order: Path) -> int:
    """Run the stage named in the order and keep state.json beside it. Returns the exit code."""
    # where TERM reaches all processes of a job, it has ended Ray too: there is nothing to wait for, and the parent task
    # has requested a checkpoint, if there is time for one
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    content: dict[str, Any] = json.loads(order.read_text(encoding="utf-8"))
    write_state(order.parent, {"state": "running", "since": time.time()})
    try:
        result = importlib.import_module(content["module"]).run(validate(content["config"], "the job"))
    except Exception as error:
        known = find_emixer_error(error)  # itself, or the one that Ray has wrapped
        message = known.message if known is not None else traceback.format_exception_only(error)[-1].strip()
        write_state(order.parent, {"state": "failed", "error": message})
        if known is None:
            raise
        with expendable(sys.stderr):
            print(f"Error: {message}", file=sys.stderr, flush=True)
        return ExitCode.USERS_ERROR
    write_state(order.parent, {"state": "finished", "summary": str(result)})
    with expendable(sys.stdout):
        print(result, flush=True)
    return 0


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Record it, if the disk has room: the log and the exit code must say how the stage ended in any case."""
    with suppress(StorageError):
        files.write_json(folder / STATE_NAME, state)


def read_state(folder: Path) -> dict[str, Any]:
    """Last state that the stage recorded; empty before it began."""
    try:
        state = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


if __name__ == "__main__":
    sys.exit(run_stage(Path(sys.argv[1])))
