"""The notes that nodes leave for each other in the cluster's folder."""

from pathlib import Path

from cluster.rendezvous import ask_to_replace, to_be_replaced


def test_node_that_asks_for_its_replacement_outlives_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    ask_to_replace(tmp_path, "7")
    assert to_be_replaced(tmp_path) == ["7"]
    ask_to_replace(tmp_path / "gone", "7")
    assert to_be_replaced(tmp_path / "gone") == []
