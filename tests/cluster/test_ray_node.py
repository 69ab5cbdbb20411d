"""A Ray node of one's own is up, serves, and leaves nothing."""

from pathlib import Path

import pytest

from cluster import meeting
from cluster.meeting import free_port, node_environment
from cluster.ray_node import Share, ray_node
from cluster.ray_state import ask_ray


def test_a_node_is_waited_for_until_ray_knows_it_and_leaves_no_file(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    disk = tmp_path_factory.getbasetemp().parent / "d"  # Ray's sockets need a short path
    head = meeting.prepare(tmp_path / "home", f"127.0.0.1:{free_port()}", "0")
    environment = head.environment() | node_environment("0", "head", "head")
    arguments = [
        "--head", f"--port={head.address.rpartition(':')[2]}", "--node-ip-address=127.0.0.1",
        "--include-dashboard=false", f"--ray-client-server-port={free_port()}", "--no-monitor",
    ]  # fmt: skip
    with ray_node(Share(1, 0, 1000), environment, arguments, disk, "1-0-0", tmp_path / "ray.log") as process:
        assert not meeting.Head(f"127.0.0.1:{free_port()}", head.token_file, "0").answers()
        state = ask_ray(head, "--nodes=1", "--patience=25")  # asked before anything listens
        assert state is not None, (tmp_path / "ray.log").read_text()
        assert (list(state["joined"]), state["nodes"], state["demands"]) == (["head"], 1, [])
        too_many = ask_ray(head, "--nodes=2", "--patience=0.5")
        assert too_many is not None
        assert too_many["nodes"] == 1
        assert process.poll() is None
    assert list(disk.iterdir()) == []
    assert not head.answers()
