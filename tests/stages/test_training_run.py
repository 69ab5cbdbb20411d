"""How the context of a training run heeds requests to stop."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from emixer.checkpoint import save_checkpoint
from emixer.config import Config
from emixer.config.training import TrainConfig
from emixer.errors import ConfigError, StoppedError
from emixer.progress import Progress
from emixer.run_folder import RunFolder
from emixer.sigterm import ends_this_process
from emixer.stages.training_run import _signals_without_handler, _stopped_by, check_batch_size, trained_checkpoint

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


@pytest.mark.parametrize(
    ("workers", "batch_size", "accumulate", "advice"),
    [
        ((8, 64), 512, 1, "every number in the range: use one number of workers, e.g. 64."),
        ((1, 30), 512, 1, "use train.num_workers=[1, 2], or one number of workers, e.g. 16."),
        ((2, 30), 48, 2, "use train.num_workers=[2, 4], or one number of workers, e.g. 24."),
        ((30, 40), 7, 2, "use one number of workers, and a batch that is a multiple of it x 2."),
        ((1, 4), 10, 1, "Use a multiple of 12, e.g. 12 or 24."),
    ],
)
def test_batch_that_no_range_of_workers_fits_says_which_would(
    workers: tuple[int, int], batch_size: int, accumulate: int, advice: str
) -> None:
    schedule = TrainConfig(num_workers=workers, batch_size=batch_size, accumulate=accumulate)
    with pytest.raises(ConfigError, match=re.escape(advice)):
        check_batch_size("train", schedule)


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
