"""On a cluster of several nodes, windows are read on the node of their worker, never on a head that runs nothing."""

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


print(ray.get(work.remote()))
"""


def test_windows_are_read_on_the_node_of_their_worker(tiny_shards: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    repository = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tiny_shards, seen], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": repository},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    assert seen.read_text().split() == [done.stdout.split()[-1]] * 8
