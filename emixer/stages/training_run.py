"""What the stages that train have in common: checks of the schedule, and a progress line."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emixer.background import repeated
from emixer.config.training import EncoderConfig, TrainConfig
from emixer.errors import ConfigError
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
                f"{section}.trackers names {name}, which is not installed. "
                f"Run `pip install 'emixer[{name}]'`, or leave it out."
            )


@contextmanager
def run_progress(folder: RunFolder, stage: str, images: int) -> Iterator[None]:
    """Shows the run's own metrics as a progress line; the workers may be on other nodes, the run folder is shared."""
    lines = folder.metrics()
    done = lines[-1]["images"] if lines else 0
    with Progress(stage, images, "films", done=done) as progress:

        def follow() -> None:
            for line in reversed(folder.metrics()):
                if "images_per_s" in line:
                    progress.update(line["images"], **_shown(line))
                    break

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
