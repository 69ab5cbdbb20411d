"""Check that Ray starts here and runs a task, or that the cluster at RAY_ADDRESS answers."""

import os
import time

import ray

from emixer.config import RayConfig
from emixer.doctor.finding import Finding, ok, problem, warning
from emixer.errors import EmixerError
from emixer.ray_session import connect

_SLOW_S = 30
_LOGS = "See Ray's own logs: `emixer phantom --studies 1 --out FOLDER --debug` prints where they are."


def look() -> list[Finding]:
    """Start Ray with one CPU, the way every stage starts it, or join the given cluster."""
    given = os.environ.get("RAY_ADDRESS")
    check = f"Ray at {given}" if given else "Ray"
    config = RayConfig() if given else RayConfig(num_cpus=1, object_store_mb=100)
    began = time.monotonic()
    try:
        with connect(config):
            started_s = time.monotonic() - began
            assert ray.get(ray.remote(num_cpus=0)(_doubled).remote(21)) == 42
            capacity = ray.cluster_resources()
    except EmixerError as error:
        return [problem(check, "does not answer" if given else "does not start", str(error))]
    except Exception as error:  # noqa: BLE001 - Ray raises what its libraries raise; the other checks still run
        return [problem(check, f"does not work: {type(error).__name__}: {str(error).splitlines()[0]}", _LOGS)]
    words = f"{'joined' if given else 'started'} in {started_s:.1f} s, ran a task"
    if given:
        words += f"; {capacity.get('CPU', 0):.0f} CPUs, {capacity.get('GPU', 0):.0f} GPUs"
    if started_s > _SLOW_S:
        return [warning(check, words, "A slow start delays every command. Set RAY_TMPDIR to a local disk.")]
    return [ok(check, words)]


def _doubled(value: int) -> int:
    return 2 * value
