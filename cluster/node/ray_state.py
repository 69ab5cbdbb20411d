"""Ray's nodes, and what waits for resources. Asked in a process of its own, which has the cluster's token in its
environment and prints one line of JSON:

    python -m cluster.node.ray_state ADDRESS [--limits AUTOSCALING_YAML] [--nodes N]

With the file, Ray is told on the way how far the cluster may grow, so that programs can ask it. With a number of nodes,
the answer comes when there are as many, or after --patience seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from cluster.rendezvous import Head, listens

_TIMEOUT_S, _POLL_S = 30, 0.1
_STORE, _WORKERS = "object_store_memory", "Busy workers on node."
"""Ray's words for what makes a node active."""


def ask_ray(head: Head, *options: str) -> dict[str, Any] | None:
    """joined: job id -> busy, idle or draining. kept: job id -> what keeps the node though nothing runs on its CPUs.
    demands: [bundle, how many]. nodes: how many. None where Ray does not answer."""
    command = state_command(head, *options)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S,
            env={**os.environ, **head.environment()},
        )  # fmt: skip
        answer = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return answer if isinstance(answer, dict) else None


def state_command(head: Head, *options: str) -> list[str]:
    """What asks Ray, given the head's environment."""
    return [sys.executable, "-m", "cluster.node.ray_state", head.address, *options]


def _ray_state(address: str) -> dict[str, Any]:
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(address)
    joined = {node.instance_id: "busy" for node in status.active_nodes}
    joined |= {node.instance_id: "idle" for node in status.idle_nodes}
    for node in [*status.active_nodes, *status.idle_nodes]:
        if node.node_status == "DRAINING":
            joined[node.instance_id] = "draining"
    kept = {node.instance_id: _what_keeps(node) for node in status.active_nodes}
    num = len(status.active_nodes) + len(status.idle_nodes)
    return {
        "joined": joined,
        "kept": {job: words for job, words in kept.items() if words},
        "demands": _demands(status.resource_demands),
        "nodes": num,
    }


def _what_keeps(node: Any) -> str:
    """Of a node that Ray calls active: why, where it is no work that asks for CPUs or GPUs; else nothing."""
    used = {name for name, amount in node.used_resources().items() if amount > 0}
    has_workers = _WORKERS in (node.node_activity or ())
    if used & {"CPU", "GPU"}:
        return "" if has_workers else "reserved, and nothing runs: a placement group holds it"
    kept = []
    if _STORE in used:
        kept.append(f"results of {node.used_resources()[_STORE] / 2**20:.1f} MB that a program still holds")
    if has_workers:
        kept.append("an actor that asks for no CPU (Ray's default for actors)")
    return f"nothing runs: kept by {' and '.join(kept)}" if kept else ""


def _when_all_are_there(address: str, num: int, patience_s: float) -> dict[str, Any]:
    import ray.autoscaler.v2.sdk  # noqa: F401 - what cannot be imported is no reason to try again

    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if listens(address):  # where nobody does, Ray's client would be silent for 40 s
            with suppress(Exception):  # of many kinds, while Ray is starting
                state = _ray_state(address)
                if state["nodes"] >= num:
                    return state
        time.sleep(_POLL_S)
    return _ray_state(address)


def waiting_bundles(address: str) -> list[dict[str, float]]:
    """What tasks, actors and placement groups wait for, one of each shape; asked in this process. Nothing where Ray
    does not answer."""
    status = _status_here(address)
    return [] if status is None else [bundle for bundle, _ in _demands(status.resource_demands)]


def living_nodes(address: str) -> set[str] | None:
    """Jobs whose nodes are alive for Ray; asked in this process. None where Ray does not answer."""
    status = _status_here(address)
    return None if status is None else {node.instance_id for node in (*status.active_nodes, *status.idle_nodes)}


def _status_here(address: str) -> Any:
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.exceptions import RayError

    try:
        return get_cluster_status(address)
    except (RayError, RuntimeError, OSError):
        return None


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--limits", type=Path)
    parser.add_argument("--nodes", type=int, default=0)
    parser.add_argument("--patience", type=float, default=0.0)
    asked = parser.parse_args()
    state = _when_all_are_there(asked.address, asked.nodes, asked.patience)
    if asked.limits is not None:
        _publish_limits(asked.address, yaml.safe_load(asked.limits.read_text(encoding="utf-8")))
    print(json.dumps(state))


if __name__ == "__main__":
    main()
