"""The batch script of docs/hpc.md as it stands there, with a stand-in for apptainer."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
APPTAINER = """#!/bin/sh
trap 'exit 143' TERM
echo started
while :; do sleep 0.2; done
"""


@pytest.fixture
def job(bed: Any, tmp_path: Path) -> Any:
    """The job of that script, when its program is running."""
    script = next(part for part in (ROOT / "docs" / "hpc.md").read_text().split("```") if "#!/bin/bash" in part).strip()
    (tmp_path / "script").write_text(script)
    (tmp_path / "apptainer").write_text(APPTAINER)
    (tmp_path / "apptainer").chmod(0o755)
    small = ["--gpus=0", "--cpus-per-task=1", "--mem=100M", "--time=30", f"--output={tmp_path}/log"]
    path = {"PATH": f"{tmp_path}:{bed.environment()['PATH']}"}
    number = bed.run(["sbatch", "--parsable", *small, str(tmp_path / "script")], environment=path).stdout.strip()
    log = tmp_path / "log"
    bed.wait_for(lambda: log.exists() and "started" in log.read_text(), 60, "its program")
    yield number
    bed.run(["scancel", "--signal=KILL", number], check=False)
    bed.run(["scancel", number], check=False)


def restarts(bed: Any, job: str) -> str:
    return str(bed.run(["squeue", "-h", "-t", "all", "-j", job, "-O", "RestartCnt"]).stdout.strip())


def test_job_comes_back_after_the_warning_of_its_time_limit(bed: Any, job: str) -> None:
    bed.run(["scancel", "--batch", "--signal=TERM", job])
    bed.wait_for(lambda: restarts(bed, job) == "1", 60, "the requeue")


def test_job_does_not_come_back_after_scancel(bed: Any, job: str) -> None:
    bed.run(["scancel", job])
    bed.wait_for(lambda: bed.state_of(job) == "CANCELLED", 60, "its end")
    assert restarts(bed, job) == "0"
    (log,) = bed.run(["scontrol", "--oneliner", "show", "job", job]).stdout.split("StdOut=")[1:]
    assert "equeue" not in Path(log.split()[0]).read_text(), "it was not even asked for"
