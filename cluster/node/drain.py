"""Takes one node out of service: python -m cluster.node.drain ADDRESS JOB SECONDS

With some seconds left, tasks that run may finish, new ones go elsewhere. With 0 the node is declared dead at once, so
that what ran there starts again elsewhere now, and not when Ray has missed its heartbeats for half a minute.

Apart from the worker, because Ray sets signal handlers of its own in whatever joins a cluster. Prints one line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from cluster.node.ray_node import ignore_warnings

_TIMEOUT_S = 20.0


def tell_ray(address: str, job_id: str, seconds: int, environment: Mapping[str, str]) -> tuple[bool, str]:
    """Drains in a process of its own. Returns whether work may be running on the node, and what came of it in words."""
    command = [sys.executable, "-m", "cluster.node.drain", address, job_id, str(seconds)]
    try:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
            timeout=_TIMEOUT_S, preexec_fn=ignore_warnings,
        )  # fmt: skip
        said = json.loads(done.stdout.splitlines()[-1])
        return bool(said["busy"]), str(said["words"])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return True, f"Ray did not answer ({type(error).__name__})."


def _drain(address: str, job_id: str, seconds: int) -> tuple[bool, str]:
    """Drains the node whose job it is. Returns whether work ran on it, and what came of it in words."""
    from ray._common.utils import hex_to_binary
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    status = get_cluster_status(address)
    nodes = [n for n in (*status.active_nodes, *status.idle_nodes) if n.instance_id == job_id]
    if not nodes:
        return False, "Ray does not know this node."
    (node,) = nodes
    is_busy = node in status.active_nodes
    client = GcsClient(address=address)
    if not seconds:
        client.drain_nodes(node_ids=[hex_to_binary(node.node_id)])
        return is_busy, "Ray considers it dead."
    deadline_ms = time.time_ns() // 1_000_000 + seconds * 1000
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why_not = client.drain_node(node.node_id, reason, f"SLURM ends job {job_id} soon", deadline_ms)
    return is_busy, "Ray drains it." if accepted else f"Ray refused to drain it: {why_not}"


if __name__ == "__main__":
    was_busy, words = _drain(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(json.dumps({"busy": was_busy, "words": words}))
