#!/usr/bin/env bash
# Ray Data leaves two actors on the node where it is first used, for as long as the cluster lives.
#
# Expected: when a program that read a data set inside a task has ended, nothing of it is left, and the node of that task is idle, so
# that an autoscaler can take it away.
# Seen: with ray 2.60.0, after such a program has disconnected, `_StatsActor` and `_AutoscalingCoordinatorActor` are alive on the
# node of the task: they are detached, pinned to the node of whoever uses Ray Data first, and nobody ends them.
# Why it matters here: on an autoscaling cluster whose first Ray Data execution happens in a training worker, the node of that
# worker, with its GPU, is never idle again. Starting both from the driver, on the head, avoids it.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray[data]==2.60.0'
cat >"$folder/look.py" <<'PYTHON'
import ray
from ray.cluster_utils import Cluster

STORE = 100 * 2**20


@ray.remote(num_cpus=1)
def read() -> str:
    ray.data.DataContext.get_current().enable_progress_bars = False
    assert ray.data.range(4).count() == len(ray.data.range(4).take_all()) == 4
    return ray.get_runtime_context().get_node_id()


def main() -> None:
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False})
    cluster.add_node(num_cpus=2, object_store_memory=STORE)
    joined = {"address": cluster.address, "logging_level": "error", "log_to_driver": False}
    ray.init(**joined)
    worker = ray.get(read.remote())
    ray.shutdown()  # the program has ended
    ray.init(**joined)
    alive = [actor for actor in ray._private.state.actors().values() if actor["State"] == "ALIVE"]
    left = sorted(actor["ActorClassName"] for actor in alive if actor["Address"]["NodeID"] == worker)
    print(f"ray {ray.__version__}: left on the node of a task that read a data set: {', '.join(left) or 'nothing'}")
    ray.shutdown()
    cluster.shutdown()
    raise SystemExit(left != ["_AutoscalingCoordinatorActor", "_StatsActor"])


main()
PYTHON
unset RAY_ADDRESS
RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$folder" "$folder/venv/bin/python" "$folder/look.py"
