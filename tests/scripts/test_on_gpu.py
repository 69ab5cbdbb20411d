"""scripts/on-gpu around its steps: limits, logs and the summary. The steps themselves are benchmarks."""

import json
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "on-gpu"


@pytest.fixture(scope="module")
def on_gpu() -> ModuleType:
    """The script as a module; its name has no suffix."""
    loader = SourceFileLoader("on_gpu", str(SCRIPT))
    spec = spec_from_loader("on_gpu", loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules["on_gpu"] = module  # dataclasses look there
    loader.exec_module(module)
    return module


def test_a_late_step_is_stopped_with_what_it_started_and_the_next_ones_run(on_gpu: ModuleType, tmp_path: Path) -> None:
    child = tmp_path / "child"
    late = f"sleep 60 & echo $! > {child}; echo began; wait"
    rows = json.dumps({"facts": {"device": "toy"}, "rows": [{"batch": 1, "images_per_s": 2.5}, {"failed": "why"}]})
    results = [
        on_gpu.run(on_gpu.Step("late", ["bash", "-c", late], 1.0), tmp_path, 100),
        on_gpu.run(on_gpu.Step("broken", ["bash", "-c", "exit 3"], 9.0), tmp_path, 100),
        on_gpu.run(
            on_gpu.Step("good", ["bash", "-c", f"seq 100; echo '{rows}' > {tmp_path}/good.json"], 9.0), tmp_path, 100
        ),
        on_gpu.run(on_gpu.Step("last", ["true"], 9.0), tmp_path, 2),
    ]
    outcomes = [result["outcome"] for result in results]
    assert outcomes == ["stopped at its time limit", "failed with exit status 3", "done", "left out: no time"]
    assert not _is_running(int(child.read_text()))
    assert (tmp_path / "late.log").read_text() == "began\n"
    assert (tmp_path / "good.log").read_text().split() == [str(number) for number in range(41, 101)]
    on_gpu.write_summary(tmp_path, results)
    summary = (tmp_path / "summary.md").read_text()
    assert "| broken | failed with exit status 3 |" in summary
    assert "| batch | images_per_s | failed |\n| --- | --- | --- |\n| 1 | 2.5 |  |\n|  |  | why |" in summary
    assert json.loads((tmp_path / "summary.json").read_text())["good"] == json.loads(rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured_as_if_there_were_one(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, SCRIPT, "--out", tmp_path], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "sees no GPU" in found.stdout
    assert not list(tmp_path.iterdir())


def _is_running(process: int) -> bool:
    """A process that is dead but not yet waited for does not run."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return found.stdout.strip()[:1] not in ("", "Z")
