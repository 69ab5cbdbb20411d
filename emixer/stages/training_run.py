"""What the stages that train have in common: checks of the schedule, and a progress line."""

import importlib.util
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from emixer.background import repeated
from emixer.checkpoint import find_checkpoint
from emixer.config import RayConfig
from emixer.config.training import EncoderConfig, TrainConfig
from emixer.errors import ConfigError, StoppedError
from emixer.progress import Progress
from emixer.run_folder import RunFolder

_POLL_S = 0.5


def check_batch_size(section: str, schedule: TrainConfig | EncoderConfig) -> None:
    """Raises ConfigError when a batch cannot be split over workers and micro-batches."""
    share = schedule.batch_unit
    if schedule.batch_size % share:
        lower = max(1, schedule.batch_size // share) * share
        raise ConfigError(
            f"{section}.batch_size={schedule.batch_size} cannot be split over {schedule.workers_in_words} worker(s) x "
            f"{schedule.accumulate} micro-batch(es). Use a multiple of {share}, e.g. {lower} or {lower + share}."
        )


def check_trackers(section: str, schedule: TrainConfig | EncoderConfig) -> None:
    """Raises ConfigError when a tracker is not installed."""
    for name in schedule.trackers:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"{section}.trackers: {name} is not installed. Run `pip install 'emixer[{name}]'`, or remove it."
            )


@contextmanager
def training_session(folder: RunFolder, stage: str, images: int, ray: RayConfig) -> Iterator[None]:
    """Context of a training run: Ray, a progress line and a SIGTERM handler.

    Raises StoppedError when it was stopped by SIGTERM and has saved.
    """
    from emixer.ray_session import connect  # here, so that checks of a training need no Ray

    is_ours = _nobody_heeds_term()  # asked before Ray is joined, which sets a handler of its own
    with connect(ray), _ended_by_term(folder, images, is_ours), _run_progress(folder, stage, images):
        yield


def _nobody_heeds_term() -> bool:
    """Whether SIGTERM would simply end this process.

    A trial of a search runs in a thread, which gets no signals; whoever set a handler saves checkpoints in its own way.
    """
    return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@contextmanager
def _ended_by_term(folder: RunFolder, images: int, is_ours: bool) -> Iterator[None]:
    """On SIGTERM, which SLURM and others send before they kill, the run saves at its next log line and stops.

    is_ours: whether to take the signal.
    """
    told = False

    def on_term(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        folder.request_stop()

    if is_ours:
        folder.answer_stop_request()  # of a former life
        before = signal.signal(signal.SIGTERM, on_term)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, before)
    last = find_checkpoint(folder.checkpoints, "last")
    if told and last is not None and last.images < images:
        raise StoppedError(
            f"Stopped by SIGTERM; checkpoint saved at {last.images:,} of {images:,} images. Run the same command again "
            "to resume."
        )


@contextmanager
def _run_progress(folder: RunFolder, stage: str, images: int) -> Iterator[None]:
    """Shows the run's own metrics as a progress line; the workers may be on other nodes, the run folder is shared."""
    last = folder.last_metrics()
    done = 0 if last is None else last["images"]
    with Progress(stage, images, "images", done=done) as progress:

        def follow() -> None:
            line = folder.last_metrics("images_per_s")
            if line is not None:
                fields = _shown(line) | _measured(folder.last_metrics("validation/report_f1_generated") or {})
                progress.update(min(line["images"], images), **fields)  # the last batch is a whole one

        with repeated(follow, _POLL_S):
            yield


def _shown(line: dict[str, Any]) -> dict[str, str]:
    fields = {"waiting": f"{line['wait_share']:.0%}"}
    for name, key in {
        "D": "discriminator/total",
        "G": "generator/total",
        "words": "generator/words",
        "loss": "encoder/loss",
    }.items():
        if key in line:
            fields[name] = f"{line[key]:.3f}"
    return fields


def _measured(line: dict[str, Any]) -> dict[str, str]:
    """What the last validation pass found of pairs, each beside its value for real ones."""
    fields = {}
    for name, key in {"report F1": "report_f1", "agreement": "pair_agreement"}.items():
        generated, real = (line.get(f"validation/{key}_{kind}") for kind in ("generated", "real"))
        if generated is not None and real is not None:
            fields[name] = f"{generated:.2f} (real {real:.2f})"
    return fields
