"""Ray's nodes, and what waits for resources. Asked in a process of its own, which has the cluster's token in its
environment and prints one line of JSON: python -m cluster.ray_state ADDRESS
"""

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

from cluster.meeting import MARK, Head

_TIMEOUT_S = 30


def ask_ray(head: Head) -> dict[str, Any] | None:
    """joined: job id -> busy, idle or draining. demands: [shape, how many]. None where Ray does not answer."""
    command = [sys.executable, "-m", "cluster.ray_state", head.address]
    environment = {**os.environ, **head.environment()}
    environment.pop(MARK)  # it is none of the cluster's processes
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S, env=environment
        )  # fmt: skip
        answer = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return answer if isinstance(answer, dict) else None


def _ray_state(address: str) -> dict[str, Any]:
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(address)
    joined = {node.instance_id: "busy" for node in status.active_nodes}
    joined |= {node.instance_id: "idle" for node in status.idle_nodes}
    for node in [*status.active_nodes, *status.idle_nodes]:
        if node.node_status == "DRAINING":
            joined[node.instance_id] = "draining"
    demands: Counter[str] = Counter()
    summary = status.resource_demands
    for demand in [*summary.ray_task_actor_demand, *summary.placement_group_demand]:
        for bundle in demand.bundles_by_count:
            demands[_shape(bundle.bundle)] += bundle.count
    return {"joined": joined, "demands": demands.most_common()}


def _shape(bundle: dict[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in sorted(bundle.items())) + "}"


if __name__ == "__main__":
    print(json.dumps(_ray_state(sys.argv[1])))
