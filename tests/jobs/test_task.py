"""What a job hands to its stage, and what it does when its time is nearly over, without SLURM."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.rendezvous import Head
from emixer.background import repeated
from emixer.cli.answer import ExitCode
from emixer.config import Config, with_overrides
from emixer.experiments.cells import ResultsFolder
from emixer.run_folder import RunFolder
from emixer.stages.tune.trial import run_folder_of
from jobs import ray_in_job
from jobs.run_stage import read_state
from jobs.submit import _task
from jobs.task import StageTask


@pytest.mark.parametrize(
    ("stage", "key", "runs"),
    [
        ("tune", "tune.study", [run_folder_of(Path(), number) for number in (0, 1)]),
        ("experiment", "experiment.out",
         [ResultsFolder(Path()).generator(name) / "run" for name in ("emixer", "emixer.1@R16.3-30")]),
    ],
)  # fmt: skip
def test_only_runs_that_train_are_asked_for_a_checkpoint_and_awaited(
    tmp_path: Path, stage: str, key: str, runs: list[Path]
) -> None:
    config = with_overrides(Config(), {key: tmp_path, "slurm.folder": tmp_path / "jobs"})
    over, training = (RunFolder.create_or_resume(tmp_path / run, "train", config) for run in runs)
    with over.alone("train"):
        pass
    answered: list[bool] = []

    def answer() -> None:
        if training.save_is_requested:
            answered.append(True)
            training.answer_save_request()

    task = _task(stage, f"emixer.stages.{stage}", config)
    started = time.monotonic()
    with training.alone("train"), repeated(answer, 0.05):
        task._save("1", wait_s=60)
    assert answered
    assert not over.save_is_requested
    assert time.monotonic() - started < 30


def in_a_job(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: str
) -> dict[str, Any]:  # fmt: skip
    """Return the state that the job leaves of a stage that tells the two addresses it finds."""
    (tmp_path / "stage_of_test.py").write_text(
        "import os\ndef run(config): return f\"{os.environ.get('RAY_ADDRESS')} {config.ray.address}\"\n"
    )
    given = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "n1",
             "SLURM_CPUS_PER_TASK": "1", "PYTHONPATH": str(tmp_path)}  # fmt: skip
    for name, value in (given | more).items():
        monkeypatch.setenv(name, value)

    @contextmanager
    def head(*_: object) -> Iterator[Head]:
        yield Head("10.0.0.1:6379", tmp_path / "token", "7-0")

    monkeypatch.setattr(ray_in_job, "head", head)
    before = signal.getsignal(signal.SIGTERM)
    try:
        StageTask("stage_of_test", tree, None, str(tmp_path / "cluster"))()
    finally:
        signal.signal(signal.SIGTERM, before)
    return read_state(tmp_path / "cluster" / "7")


def test_address_of_a_jobs_cluster_is_in_no_config_that_stages_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_overrides(Config(), {"ray.address": "10.9.9.9:1"})
    assert in_a_job(config.model_dump(mode="json"), tmp_path, monkeypatch)["summary"] == "10.0.0.1:6379 None"


def test_local_job_in_the_shell_of_srun_leaves_the_surrounding_job_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them would share a folder for Ray, and a shell on two nodes would wait for the other one."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    local = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7", "SLURM_JOB_ID": "3"}
    assert in_a_job(Config().model_dump(mode="json"), tmp_path, monkeypatch, **local)["summary"] == "None None"


def test_local_job_near_its_time_limit_goes_on_without_asking_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7", "PATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    config = with_overrides(Config(), {"train.run": tmp_path / "run", "slurm.folder": tmp_path / "jobs"})
    again = _task("train", "emixer.stages.train", config).checkpoint()
    assert isinstance(again.function, StageTask)
    assert "SLURM" not in capsys.readouterr().out


def test_files_of_jobs_and_runs_hold_no_password(tmp_path: Path) -> None:
    storage = {"tune.storage": "postgresql://me:s3cret@host/db", "slurm.folder": tmp_path / "jobs"}
    config = with_overrides(Config(), storage)
    assert "s3cret" not in str(_task("train", "emixer.stages.train", config).tree)
    RunFolder.create_or_resume(tmp_path / "run", "train", config)
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert "s3cret" not in written
    assert "me@host" in written


def test_config_that_a_later_version_refuses_is_a_paragraph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        in_a_job(Config().model_dump(mode="json") | {"gone": {}}, tmp_path, monkeypatch)
    assert ended.value.code == ExitCode.USERS_ERROR
    assert "Invalid config from the job" in read_state(tmp_path / "cluster" / "7")["error"]
