"""On a cluster of several nodes, windows are read on the node of their worker, never on a head that runs nothing, and
nothing is left on that node."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.ray]

SCRIPT = """
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from emixer.config import Config
from emixer.data.loader import WindowReader, open_windows, read_ahead
from emixer.data.shards import ShardSet
from emixer.ray_session import keep_data_actors_here

folder, seen = Path(sys.argv[1]), Path(sys.argv[2])
cluster = Cluster(head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20, "include_dashboard": False},
                  initialize_head=True)
for _ in range(2):
    cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)


class Noting(WindowReader):
    def read(self, window):
        with seen.open("a") as file:
            file.write(ray.get_runtime_context().get_node_id() + "\\n")
        return super().read(window)


@ray.remote(num_cpus=1)
def work():
    reader = Noting(**vars(open_windows(ShardSet.open(folder), "train", Config().data, 0, 4, 8)))
    assert sum(len(batch) for batch in read_ahead(reader, range(8), num_tasks=2)) == 8 * 96
    return ray.get_runtime_context().get_node_id()


keep_data_actors_here()
print(ray.get(work.remote()))
actors = ray._private.state.actors().values()
here = ray.get_runtime_context().get_node_id()
alive = [actor for actor in actors if actor["State"] == "ALIVE"]
print(*[actor["ActorClassName"] for actor in alive if actor["Address"]["NodeID"] != here])
"""


def test_windows_are_read_on_the_node_of_their_worker(tiny_shards: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    repository = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tiny_shards, seen], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": repository, "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    worker, actors_elsewhere = done.stdout.splitlines()[-2:]
    assert seen.read_text().split() == [worker] * 8
    assert not actors_elsewhere, "an actor that outlives the program would keep a worker's node"
