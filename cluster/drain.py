"""Takes one node out of service: python -m cluster.drain ADDRESS JOB SECONDS

Tasks that run may finish until the deadline, new ones go elsewhere, and the autoscaler asks for a replacement. Apart
from the worker, because Ray sets signal handlers of its own in whatever joins a cluster.
"""

import sys
import time

from ray import NodeID
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.core.generated.autoscaler_pb2 import DrainNodeReason


def drain(address: str, job_id: str, seconds: int) -> str:
    """Drains the node whose job it is. Returns what came of it, in words."""
    status = get_cluster_status(address)
    for node in [*status.active_nodes, *status.idle_nodes]:
        if node.instance_id == job_id:
            break
    else:
        return "Ray does not know this node, or is draining it already."
    assert NodeID.from_hex(node.node_id)
    accepted, why_not = GcsClient(address=address).drain_node(
        node.node_id,
        DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
        f"SLURM ends job {job_id} soon",
        time.time_ns() // 1_000_000 + seconds * 1000,
    )
    return "Ray drains it." if accepted else f"Ray does not drain it: {why_not}"


if __name__ == "__main__":
    print(drain(sys.argv[1], sys.argv[2], int(sys.argv[3])))
