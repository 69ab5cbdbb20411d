"""Takes one node out of service: python -m cluster.drain ADDRESS JOB SECONDS

Tasks that run may finish until the deadline, new ones go elsewhere, and the autoscaler asks for a replacement. Apart
from the worker, because Ray sets signal handlers of its own in whatever joins a cluster.
"""

import json
import sys
import time

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.core.generated.autoscaler_pb2 import DrainNodeReason


def drain(address: str, job_id: str, seconds: int) -> tuple[bool, str]:
    """Drains the node whose job it is. Returns whether work ran on it, and what came of it in words."""
    status = get_cluster_status(address)
    nodes = [n for n in (*status.active_nodes, *status.idle_nodes) if n.instance_id == job_id]
    if not nodes:
        return False, "Ray does not know this node."
    (node,) = nodes
    is_busy = node in status.active_nodes
    accepted, why_not = GcsClient(address=address).drain_node(
        node.node_id,
        DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        f"SLURM ends job {job_id} soon",
        time.time_ns() // 1_000_000 + seconds * 1000,
    )
    return is_busy, "Ray drains it." if accepted else f"Ray does not drain it: {why_not}"


if __name__ == "__main__":
    was_busy, words = drain(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(json.dumps({"busy": was_busy, "words": words}))
