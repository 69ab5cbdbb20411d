"""The notebook of the documentation runs from its first cell to its last, and is kept without outputs."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "examples" / "first-pairs.ipynb"


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.thorough
@pytest.mark.ray
def test_it_runs_and_shows_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output["data"] for output in shown if "data" in output]
    assert any("data:image/png;base64," in data.get("text/html", "") for data in pictures)
    assert any("image/png" in data for data in pictures)
    assert "torch.Size([4, 1, 32, 32])" in str(pictures[-1])
    assert len(list((tmp_path / "first-pairs" / "pairs").glob("*.png"))) == 4
