"""What the recorder of a run leaves if the process is stopped while it writes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from emixer import checkpoint
from emixer.config import Config
from emixer.data.order import DataOrder
from emixer.run_folder import RunFolder
from emixer.training.loop import TrainableState
from emixer.training.reporter import Recorder


class Killed(BaseException):
    pass


class State(SimpleNamespace):
    def parts(self) -> dict[str, dict[str, torch.Tensor]]:
        return {checkpoint.NETWORKS: self.model.state_dict()}

    def describe(self) -> dict[str, Any]:
        return {"best": self.best}


def test_resumed_run_believes_no_better_value_than_that_of_the_checkpoint_kept_as_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create_or_resume(tmp_path / "run", "train", Config())
    state = State(images=1, best=None, model=torch.nn.Linear(1, 1), schedule=SimpleNamespace(trackers=()))
    recorder = Recorder(folder, cast(TrainableState, state), cast(DataOrder, None))
    recorder._keep_if_best(0.5)
    pointed: list[str] = []
    point = checkpoint.point

    def point_once(folder: Path, which: checkpoint.Which, path: Path) -> None:
        if pointed:
            raise Killed
        pointed.append(which)
        point(folder, which, path)

    monkeypatch.setattr(checkpoint, "point", point_once)
    state.images = 2
    with pytest.raises(Killed):
        recorder._keep_if_best(0.25)
    last, best = (checkpoint.find_checkpoint(folder.checkpoints, which) for which in ("last", "best"))
    assert last is not None
    assert best is not None
    assert best.state["best"] <= last.state["best"]


def test_metric_that_is_no_number_does_not_keep_a_checkpoint_from_being_saved(tmp_path: Path) -> None:
    folder = RunFolder.create_or_resume(tmp_path / "run", "train", Config())
    state = State(images=1, best=None, model=torch.nn.Linear(1, 1), schedule=SimpleNamespace(trackers=()))
    recorder = Recorder(folder, cast(TrainableState, state), cast(DataOrder, None))
    recorder._record_validation({"loss": float("nan"), "auc": 0.5})
    recorder.save()
    last = checkpoint.find_checkpoint(folder.checkpoints, "last")
    assert last is not None
    assert last.state["validation"] == {"auc": 0.5}
