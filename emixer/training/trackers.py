"""Metrics in TensorBoard and, if asked for, W&B and MLflow: one run there for a run folder, however often it resumes.

A tracker that fails during training is named once in the log and gets no more values; the training goes on.
"""

import importlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from emixer.errors import ConfigError
from emixer.run_folder import RunFolder

logger = logging.getLogger(__name__)

_PROJECT = "emixer"
_MLFLOW_ADDRESS = "MLFLOW_TRACKING_URI"
_RELATIVE = re.compile(r"file:[^/].*|sqlite(?:\+\w+)?:///[^/].*|(?!(?:databricks|uc)\b)[^/:][^:]*")
"""MLflow's addresses of a store in the working directory: URLs, or a path without a scheme."""
Values = dict[str, float]


@dataclass
class Tracker:
    """An open tracker."""

    name: str
    write: Callable[[Values, int], Any]
    """Takes finite values and the number of images trained on."""
    end: Callable[[bool], Any]
    """Takes whether the training failed."""
    has_failed: bool = False

    def log(self, values: Values, images: int) -> None:
        """Record values. Raises nothing."""
        if self.has_failed:
            return
        try:
            self.write(values, images)
        except Exception as error:  # noqa: BLE001 - of a server that is down, or whatever the package raises
            self.has_failed = True
            logger.warning("%s fails, and records no more of this training: %s", self.name, error)

    def close(self, has_failed: bool) -> None:
        """Send what is left, and how the training ended. Raises nothing."""
        with suppress(Exception):
            self.end(has_failed)


def open_trackers(folder: RunFolder, names: Sequence[str], images: int) -> list[Tracker]:
    """Open TensorBoard and those of `names`. images: trained on so far.

    What cannot be opened is an error for a new run, which nobody has seen yet, and a warning for one that resumes.
    """
    found = [_tensorboard(folder, images)]
    for name in names:
        try:
            found.append({"wandb": _wandb, "mlflow": _mlflow}[name](folder))
        except Exception as error:
            if not images:
                raise
            logger.warning("%s cannot be opened, and records nothing of this training: %s", name, error)
    return found


def require_absolute_store(setting: str) -> None:
    """Raise ConfigError if MLflow would write where a training worker runs: in a folder that ends with its Ray."""
    address = os.environ.get(_MLFLOW_ADDRESS, "")
    if _RELATIVE.fullmatch(address):
        raise ConfigError(
            f"{setting}: {_MLFLOW_ADDRESS}={address} is relative to the working directory, which in training is one "
            "that Ray deletes. Give an absolute path, e.g. sqlite:////shared/mlflow.db, or unset it to record in the "
            "run folder."
        )


def _tensorboard(folder: RunFolder, images: int) -> Tracker:
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(folder.tensorboard), purge_step=images + 1)  # hides work that is redone, from there on

    def write(values: Values, images: int) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, images)
        board.flush()

    return Tracker("TensorBoard", write, lambda _: board.close())


def _wandb(folder: RunFolder) -> Tracker:
    wandb = importlib.import_module("wandb")
    run = wandb.init(
        project=_PROJECT, name=folder.path.name, dir=str(folder.path), id=folder.tracked_as("wandb"), resume="allow"
    )
    folder.keep_tracked_as("wandb", run.id)
    return Tracker(
        "W&B",
        lambda values, images: run.log(values, step=images),
        lambda has_failed: run.finish(exit_code=int(has_failed)),
    )


def _mlflow(folder: RunFolder) -> Tracker:
    mlflow = importlib.import_module("mlflow")
    is_in_folder = not mlflow.is_tracking_uri_set()
    if is_in_folder:  # MLflow's default is the working directory, which Ray deletes
        mlflow.set_tracking_uri(f"sqlite:///{folder.path.absolute() / 'mlflow.db'}")
        if mlflow.get_experiment_by_name(_PROJECT) is None:
            mlflow.create_experiment(_PROJECT, (folder.path.absolute() / "mlartifacts").as_uri())
    mlflow.set_experiment(_PROJECT)
    known = folder.tracked_as("mlflow")
    run = mlflow.start_run(run_id=known, run_name=None if known else folder.path.name)
    folder.keep_tracked_as("mlflow", run.info.run_id)

    def write(values: Values, images: int) -> None:
        mlflow.log_metrics({name.replace("/", "."): value for name, value in values.items()}, step=images)

    def end(has_failed: bool) -> None:
        mlflow.end_run("FAILED" if has_failed else "FINISHED")
        if is_in_folder:
            mlflow.set_tracking_uri(None)  # it is the process's, whose next run has a folder of its own

    return Tracker("MLflow", write, end)
