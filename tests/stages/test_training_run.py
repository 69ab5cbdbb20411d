"""How the context of a training run heeds requests to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from emixer.checkpoint import find_checkpoint, save_checkpoint
from emixer.config import Config
from emixer.errors import StoppedError
from emixer.progress import Progress
from emixer.run_folder import RunFolder
from emixer.sigterm import ends_this_process
from emixer.stages import training_run
from emixer.stages.training_run import _signals_without_handler, _stopped_by, trained_checkpoint

IMAGES = 100


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create_or_resume(tmp_path / "run", "train", Config())


@contextmanager
def heeding(folder: RunFolder, *signals: signal.Signals) -> Iterator[None]:
    with Progress("train", IMAGES, "images") as progress, _stopped_by(signals, folder, IMAGES, progress):
        yield


def save(folder: RunFolder, images: int) -> None:
    save_checkpoint(folder.checkpoints, images, {"model": {"w": torch.zeros(1)}}, {})


@pytest.mark.parametrize("signals", [(), (signal.SIGTERM,)], ids=["another handles SIGTERM, as in a job", "by hand"])
def test_request_of_a_former_life_stops_nothing(folder: RunFolder, signals: tuple[signal.Signals, ...]) -> None:
    folder.request_stop()
    with heeding(folder, *signals):
        assert not folder.stop_is_requested
        save(folder, IMAGES)
    assert trained_checkpoint(folder).images == IMAGES


def test_sigterm_saves_where_an_experiment_has_joined_ray_before_its_training() -> None:
    assert signal.SIGTERM in _signals_without_handler()
    with ends_this_process():
        assert signal.SIGTERM in _signals_without_handler()
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # of a job
    try:
        with ends_this_process():
            assert signal.SIGTERM not in _signals_without_handler()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_run_that_was_asked_to_stop_is_no_finished_one(folder: RunFolder) -> None:
    # a job that ended so would be finished for SLURM, and jobs that wait for a trained model would start
    with pytest.raises(StoppedError, match=r"stop-requested; checkpoint saved at 40 of 100 images"), heeding(folder):
        save(folder, 40)


def test_stopped_run_is_no_finished_one_where_its_first_checkpoint_is_not_in_sight_at_once(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker on another node has written it, and NFS shows it later."""
    looks = iter([None])
    monkeypatch.setattr(training_run, "find_checkpoint", lambda *what: next(looks, find_checkpoint(*what)))
    with pytest.raises(StoppedError, match="saved at 40 of 100 images"), heeding(folder):
        save(folder, 40)


def test_trial_of_a_search_keeps_the_request_of_its_search(folder: RunFolder) -> None:
    folder.request_stop()
    seen = []

    def trial() -> None:
        with heeding(folder):
            seen.append(folder.stop_is_requested)
            save(folder, 40)

    thread = threading.Thread(target=trial)
    thread.start()
    thread.join()
    assert seen == [True]
