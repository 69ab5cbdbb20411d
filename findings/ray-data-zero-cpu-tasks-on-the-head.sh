#!/usr/bin/env bash
# Tasks of Ray Data that ask for no CPU run on a head node that offers none.
#
# Expected: nothing is scheduled on a head that was started with num_cpus=0, which is Ray's own advice to keep work away from it.
# Seen: with ray 2.60.0, half to four fifths of the tasks of map_batches(..., num_cpus=0) run there, on a cluster with one other
# node: Ray Data spreads tasks with small arguments over all nodes that can hold them, and one that needs nothing fits everywhere.
# Why it matters here: the encoders of generated images asked for no CPU, since samplers may hold all of them, and ran on the small
# head of a cluster, whose memory holds the whole program's state. They ask for one now.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray[data]==2.60.0'
cat >"$folder/look.py" <<'PYTHON'
import logging

import ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
logging.getLogger("ray.data").setLevel(logging.ERROR)
head = cluster.head_node.node_id


def where(batch):
    return {"on_head": [ray.get_runtime_context().get_node_id() == head]}


for num_cpus in (0, 1):
    rows = ray.data.range(20, override_num_blocks=20).map_batches(where, num_cpus=num_cpus, batch_size=None).take_all()
    print(f"{num_cpus} CPUs: {sum(row['on_head'] for row in rows)} of {len(rows)} tasks on the head", flush=True)
ray.shutdown()
cluster.shutdown()
PYTHON
unset RAY_ADDRESS
export RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$folder"
"$folder/venv/bin/python" -c 'import ray; print(f"ray {ray.__version__}")'
"$folder/venv/bin/python" "$folder/look.py" 2>"$folder/log" >"$folder/seen" || cat "$folder/log"
cat "$folder/seen"
grep -q '^0 CPUs: [1-9][0-9]* of 20' "$folder/seen" && grep -q '^1 CPUs: 0 of 20' "$folder/seen"
