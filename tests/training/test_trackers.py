"""W&B and MLflow as published, recording on this machine. Need the extras `wandb` and `mlflow`."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, with_overrides
from emixer.config.training import TrainConfig
from emixer.errors import ConfigError
from emixer.stages.training_run import check_trackers
from emixer.training.trackers import open_trackers

Train = Callable[..., Any]
NAME = "generator.total"


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    package = pytest.importorskip("mlflow", reason="needs emixer[mlflow]")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    return package


def test_a_run_that_resumes_is_one_run_in_mlflow_and_its_namesake_another(
    mlflow: Any, tiny_config: Config, tmp_path: Path, train_locally: Train
) -> None:
    config = with_overrides(tiny_config, {"train.trackers": ["mlflow"], "train.images": 96})
    client = mlflow.MlflowClient()

    def tracked() -> list[Any]:
        (experiment,) = (each for each in client.search_experiments() if each.name == "emixer")
        return list(client.search_runs([experiment.experiment_id]))

    for study in ("one", "other"):
        train_locally(config, tmp_path / study / "trial", killed_after=64)
        assert [run.info.status for run in tracked()].count("FAILED") == 1
        train_locally(config, tmp_path / study / "trial")
    runs = tracked()
    assert [run.info.run_name for run in runs] == ["trial", "trial"]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert [value.step for value in client.get_metric_history(run.info.run_id, NAME)] == [32, 64, 96]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow 3.17, SQLAlchemy 2.1
def test_without_an_address_mlflow_writes_to_the_run_folder_and_not_to_ray_s_own(
    mlflow: Any, tiny_config: Config, tmp_path: Path, train_locally: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path / "worker")
    config = with_overrides(tiny_config, {"train.trackers": ["mlflow"], "train.images": 96})
    for name in ("one", "other"):
        train_locally(config, tmp_path / name, killed_after=64)
        train_locally(config, tmp_path / name)
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path / name / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("emixer")
        assert experiment.artifact_location.startswith((tmp_path / name).as_uri())
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.run_name == name
        assert [value.step for value in client.get_metric_history(run.info.run_id, NAME)] == [32, 64, 96]
    assert not any(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("mlruns", True), ("./mlruns", True), ("../runs/mlruns", True), ("file:mlruns", True), ("file:./mlruns", True),
        ("sqlite:///mlflow.db", True), ("sqlite+pysqlite:///runs/mlflow.db", True),
        ("", False), ("/shared/mlruns", False), ("file:///shared/mlruns", False), ("file:/shared/mlruns", False),
        ("sqlite:////shared/mlflow.db", False), ("http://mlflow:5000", False), ("postgresql://u@host/db", False),
        ("databricks", False), ("databricks-uc", False), ("databricks://profile", False),
    ],
)  # fmt: skip
def test_a_store_that_is_relative_to_a_worker_s_folder_is_refused(
    address: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.py").touch()  # counts as installed
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(ConfigError, match="is relative to the working directory") if is_refused else nullcontext():
        check_trackers("train", TrainConfig(trackers=("mlflow",)))
    check_trackers("train", TrainConfig())


def test_a_tracker_that_fails_does_not_end_the_training(
    mlflow: Any, tiny_config: Config, tmp_path: Path, train_locally: Train, caplog: pytest.LogCaptureFixture
) -> None:
    config = with_overrides(tiny_config, {"train.trackers": ["mlflow"], "train.images": 96})
    folder = train_locally(config, tmp_path / "run", killed_after=64).folder
    (_, tracker) = open_trackers(folder, ["mlflow"], images=64)
    (tmp_path / "mlflow").rename(tmp_path / "gone")
    (tmp_path / "mlflow").touch()
    for images in (65, 66):
        tracker.log({"x": 1.0}, images)
    tracker.close(has_failed=False)
    assert sum("MLflow fails, and records no more" in message for message in caplog.messages) == 1
    train_locally(config, tmp_path / "run")
    assert sum("mlflow cannot be opened" in message for message in caplog.messages) == 1
    assert [line["images"] for line in folder.metrics() if "images_per_s" in line] == [32, 64, 96]


def test_a_run_has_one_id_in_wandb_however_often_it_resumes(
    tiny_config: Config, tmp_path: Path, train_locally: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs emixer[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = with_overrides(tiny_config, {"train.trackers": ["wandb"], "train.images": 96})
    for study in ("one", "other"):
        train_locally(config, tmp_path / study / "trial", killed_after=64)
        train_locally(config, tmp_path / study / "trial")
    ids = [
        [folder.name.split("-")[-1] for folder in (tmp_path / study / "trial" / "wandb").glob("offline-run-*")]
        for study in ("one", "other")
    ]
    assert [len(of_run) for of_run in ids] == [2, 2]
    assert [len(set(of_run)) for of_run in ids] == [1, 1]
    assert set(ids[0]) != set(ids[1])
