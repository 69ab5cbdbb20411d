"""What the stages that train have in common: checks of the schedule, and a progress line."""

import importlib.util
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cluster.files import FreshView
from emixer.background import repeated
from emixer.checkpoint import Checkpoint, find_checkpoint
from emixer.config import RayConfig
from emixer.config.training import EncoderConfig, TrainConfig
from emixer.errors import ConfigError, StoppedError
from emixer.extras import to_install
from emixer.files import remove_old_partials
from emixer.progress import Progress
from emixer.run_folder import RunFolder
from emixer.sigterm import end_process
from emixer.training.trackers import require_absolute_store

_SHARED_VIEW_S = 60.0
"""How long NFS may remember that a file was not there."""

_POLL_S = 0.5


def check_trackers(section: str, schedule: TrainConfig | EncoderConfig) -> None:
    """Raises ConfigError when a tracker is not installed, or would write to a temporary folder."""
    for name in schedule.trackers:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"{section}.trackers: {name} is not installed. Run {to_install(name)}, or remove it.")
    if "mlflow" in schedule.trackers:
        require_absolute_store(f"{section}.trackers")


def start_in_words(last: Checkpoint | None, is_done: bool) -> str:
    """How a run would begin, given its last checkpoint and whether nothing is left to do."""
    if last is None:
        return "new run"
    return f"nothing to do: trained on {last.images:,} images" if is_done else f"resumes at {last.images:,} images"


@contextmanager
def training_session(folder: RunFolder, stage: str, images: int, ray: RayConfig) -> Iterator[None]:
    """Context of a training run: Ray, a progress line and handlers of SIGTERM and Ctrl-C.

    Raises StoppedError when it was stopped by SIGTERM and has saved; KeyboardInterrupt when it was stopped by Ctrl-C,
    with a message if it has saved.
    """
    from emixer.ray_session import connect  # here, so that checks of a training need no Ray

    for shared in (folder.path, folder.samples):  # requests to the run are written by others
        remove_old_partials(shared)
    ours = _signals_without_handler()
    with connect(ray), _run_progress(folder, stage, images) as progress, _stopped_by(ours, folder, images, progress):
        yield


def _signals_without_handler() -> list[signal.Signals]:
    """Those of SIGTERM and SIGINT that would simply end this process.

    A trial of a search runs in a thread, which gets no signals; whoever set a handler saves checkpoints in its own way.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    ending = {signal.SIGTERM: (signal.SIG_DFL, end_process), signal.SIGINT: (signal.default_int_handler,)}
    return [number for number, handlers in ending.items() if signal.getsignal(number) in handlers]


@contextmanager
def _stopped_by(
    signals: Sequence[signal.Signals], folder: RunFolder, images: int, progress: Progress
) -> Iterator[None]:
    """On SIGTERM, which SLURM and others send before they kill, or Ctrl-C, the run saves at its next log line and
    stops. A second Ctrl-C stops it at once."""
    received: list[signal.Signals] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))
        folder.request_stop()
        if number == signal.SIGINT:
            progress.say("Stopping at the next log line, with a checkpoint. Ctrl-C again: at once, without one.")

    is_trial = threading.current_thread() is not threading.main_thread()  # whose search may have asked already
    if not is_trial:
        folder.answer_stop_request()  # of a former life
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if is_trial:
        return
    last = trained_checkpoint(folder)
    # no finished run: what waits for a trained model, as dependent jobs do, must not start
    if last.images < images:
        saved = f"checkpoint saved at {last.images:,} of {images:,} images. Run the same command again to resume."
        if received and received[0] == signal.SIGINT:
            raise KeyboardInterrupt(f"Interrupted; {saved}")
        raise StoppedError(f"Stopped by {'SIGTERM' if received else 'the file stop-requested'}; {saved}")


def trained_checkpoint(folder: RunFolder) -> Checkpoint:
    """The last checkpoint of a run that has ended. A worker on another node has written it: this machine's view of a
    shared folder may be a minute old."""
    end = time.monotonic() + _SHARED_VIEW_S
    while (last := find_checkpoint(folder.checkpoints, "last")) is None and time.monotonic() < end:
        for place in (folder.path, folder.checkpoints):
            FreshView(place).refresh()
        time.sleep(1)
    assert last is not None, "a finished run has a checkpoint"
    return last


@contextmanager
def _run_progress(folder: RunFolder, stage: str, images: int) -> Iterator[Progress]:
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
            yield progress


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
