"""What killed stages left half-written goes when the next one works in the same place."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, RayConfig
from emixer.data.phantom.collection import PhantomCollection, finish, write_block
from emixer.data.phantom.study import Settings
from emixer.run_folder import RunFolder
from emixer.stages import evaluate
from emixer.stages.audit import control
from emixer.stages.training_run import training_session

DAY_S = 24 * 3600


class ReachedError(Exception):
    """The stage has come to its work."""


def work(*arguments: Any) -> None:
    raise ReachedError


def left_in(folder: Path, days: float) -> Path:
    left = folder / ".partial-kept-01234567"
    folder.mkdir(parents=True, exist_ok=True)
    left.write_text("half")
    os.utime(left, (time.time() - days * DAY_S,) * 2)
    return left


def test_audit_removes_old_measurements_from_the_folder_that_audits_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = control.ImageFile.of(tmp_path / "a.parquet", "shard", 1, 32, "sha256", "network", tmp_path)
    old, young = left_in(tmp_path / "matches", 2), left_in(tmp_path, 0.5)
    monkeypatch.setattr(control, "capacity", work)
    with pytest.raises(ReachedError):
        control.measured_and_matched(Config().audit, [file], Any, dict, tmp_path / "matches")
    assert not old.exists()
    assert young.exists(), "another audit may be writing it"
    os.utime(young, (0, 0))
    with pytest.raises(ReachedError):
        control.measured_and_matched(Config().audit, [file], Any, dict, tmp_path / "matches")
    assert not young.exists()


def test_evaluation_removes_its_own_arrays_and_old_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, kept = tmp_path / "evaluation", tmp_path / "features"
    own, old = left_in(out / "decoded", 0), left_in(kept, 2)
    monkeypatch.setattr(evaluate, "_checked", lambda config: (tmp_path, {"files": []}, None, out, kept))
    monkeypatch.setattr(evaluate, "_evaluated", work)
    with pytest.raises(ReachedError):
        evaluate.run(Config())
    assert not own.exists()
    assert not old.exists()
    young = left_in(kept, 0.5)
    with pytest.raises(ReachedError):
        evaluate.run(Config())
    assert young.exists(), "another evaluation may be writing it"


def test_training_removes_old_files_from_its_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create_or_resume(tmp_path / "run", "train", Config())
    old = [left_in(folder.path, 2), left_in(folder.samples, 2)]
    monkeypatch.setattr("emixer.ray_session.connect", work)
    with pytest.raises(ReachedError), training_session(folder, "train", 100, RayConfig()):
        pass
    assert not any(left.exists() for left in old)
    request = left_in(folder.path, 0)
    with pytest.raises(ReachedError), training_session(folder, "train", 100, RayConfig()):
        pass
    assert request.exists(), "another process may be asking the run to save"


@pytest.mark.parametrize("layout", ["mimic-cxr-jpg", "nih-cxr14"])
def test_phantom_is_finished_without_leftovers_in_folders_of_patients(tmp_path: Path, layout: str) -> None:
    collection = PhantomCollection(tmp_path, 2, Settings(seed=4, height_px=96), layout=layout)
    collection.begin()
    write_block(collection, 0, 2)
    image = next(path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png"))
    left = [left_in(image.parent, 0), left_in(image.parent.parent, 0)]
    finish(collection)
    assert image.exists()
    assert not any(path.exists() for path in left)
