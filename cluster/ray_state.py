"""Ray's nodes, and what waits for resources. Asked in a process of its own, which has the cluster's token in its
environment and prints one line of JSON: python -m cluster.ray_state ADDRESS [AUTOSCALING_YAML]

With the file, Ray is told on the way how far the cluster may grow, so that programs can ask it.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from cluster.meeting import Head

_TIMEOUT_S = 30


def ask_ray(head: Head, limits: Path | None = None) -> dict[str, Any] | None:
    """joined: job id -> busy, idle or draining. demands: [bundle, how many]. None where Ray does not answer."""
    command = [sys.executable, "-m", "cluster.ray_state", head.address, *([] if limits is None else [str(limits)])]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S,
            env={**os.environ, **head.environment()},
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
    return {"joined": joined, "demands": _demands(status.resource_demands)}


def waiting_bundles(address: str) -> list[dict[str, float]]:
    """What tasks, actors and placement groups wait for, one of each shape; asked in this process. Nothing where Ray
    does not answer."""
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.exceptions import RayError

    try:
        status = get_cluster_status(address)
    except (RayError, RuntimeError, OSError):
        return []
    return [bundle for bundle, _ in _demands(status.resource_demands)]


def _demands(summary: Any) -> list[tuple[dict[str, float], int]]:
    """The most frequent first."""
    counts: Counter[tuple[tuple[str, float], ...]] = Counter()
    for demand in [*summary.ray_task_actor_demand, *summary.placement_group_demand]:
        for bundle in demand.bundles_by_count:
            counts[tuple(sorted(bundle.bundle.items()))] += bundle.count
    return [(dict(bundle), count) for bundle, count in counts.most_common()]


def _publish_limits(address: str, tree: dict[str, Any]) -> None:
    """Where `ray.train` and others look how many nodes of which resources there may be."""
    from ray._raylet import (  # type: ignore[attr-defined]
        GCS_AUTOSCALER_CLUSTER_CONFIG_KEY,
        GCS_AUTOSCALER_STATE_NAMESPACE,
        GcsClient,
    )
    from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig

    groups = [
        NodeGroupConfig(
            name=name, min_count=node_type["min_workers"], max_count=node_type["max_workers"],
            resources={key: int(value) for key, value in node_type["resources"].items()},
        )
        for name, node_type in tree["available_node_types"].items()
    ]  # fmt: skip
    config = ClusterConfig(node_group_configs=groups)
    GcsClient(address=address).internal_kv_put(
        GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(), config.SerializeToString(), True,
        GCS_AUTOSCALER_STATE_NAMESPACE.encode(),
    )  # fmt: skip


def shape(bundle: dict[str, float]) -> str:
    """E.g. `{CPU: 1, GPU: 1}`."""
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in sorted(bundle.items())) + "}"


if __name__ == "__main__":
    found = _ray_state(sys.argv[1])
    if len(sys.argv) > 2:
        _publish_limits(sys.argv[1], yaml.safe_load(Path(sys.argv[2]).read_text(encoding="utf-8")))
    print(json.dumps(found))
