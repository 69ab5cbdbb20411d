"""The notes that nodes leave for each other in the cluster's folder, and under which address they meet."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import rendezvous
from cluster.errors import ClusterError
from cluster.rendezvous import ask_to_replace, own_address, to_be_replaced


def test_node_that_asks_for_its_replacement_outlives_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    ask_to_replace(tmp_path, "7")
    assert to_be_replaced(tmp_path) == ["7"]
    ask_to_replace(tmp_path / "gone", "7")
    assert to_be_replaced(tmp_path / "gone") == []


@pytest.fixture
def bare_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without names and default route: an interface leads to 10.1.2.0/24, and nothing else."""

    def towards(host: str) -> str:
        if host.startswith("10.1.2."):
            return "10.1.2.9"
        raise OSError("unreachable")

    monkeypatch.setattr(rendezvous, "_towards", towards)


@pytest.mark.parametrize(("node", "others"), [("localhost", []), ("n1", ["n2", "n3"])])
def test_node_without_names_and_default_route_is_reached_as_slurm_reaches_nodes(
    node: str, others: list[str], bare_network: None, command: Callable[[str, str], None]
) -> None:
    command("scontrol", 'echo "NodeName=$4 Arch=x86_64 NodeAddr=10.1.2.3 NodeHostName=$4"')
    assert own_address(node, others) == "10.1.2.9"


@pytest.mark.parametrize(
    "answer", ["echo 'Node n2 not found'; exit 1", "echo NodeName=n2 NodeAddr=n2 NodeHostName=n2", "echo NodeName=n2"]
)
def test_loopback_is_not_announced_to_other_nodes(
    answer: str, bare_network: None, command: Callable[[str, str], None]
) -> None:
    command("scontrol", answer)
    with pytest.raises(ClusterError, match=r"under which other nodes reach n1: the name n2 .*`scontrol show node n2`"):
        own_address("n1", ["n2"])
