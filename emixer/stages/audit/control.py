"""What every audit needs: enough held-out images, an encoder, and the distances of the control."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emixer.audit.control import min_control
from emixer.audit.matching import Matches, Side
from emixer.audit.measured import ImageFile, Measured
from emixer.audit.work import Search, TaskResources, match_all, measure_all
from emixer.config import Config
from emixer.config.audit import AuditConfig
from emixer.config.base import beside
from emixer.config.model import ChestEncoderConfig
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError
from emixer.evaluation.features import Network
from emixer.files import remove_old_partials
from emixer.models.encoder_facts import checked_facts
from emixer.progress import Progress
from emixer.ray_session import capacity, require_resource
from emixer.run_folder import RunFolder
from emixer.stages.audit.sides import HELD_OUT
from emixer.stages.real_measurements import kept_in, same_collection_remarks

NUM_MEASURES = 3
"""Pixels, features and reports: each may flag a third of `audit.false_alarm`."""
_MAX_FALSE_ALARM = 0.1


def measured_and_matched(
    settings: AuditConfig, image_files: Sequence[ImageFile], network: Network,
    searches: Callable[[], Mapping[str, Search]], kept: Path,
) -> dict[str, Matches]:  # fmt: skip
    """Measure images, then run the searches among them, with progress. kept: folder of earlier matches.

    searches: called once everything is measured.
    """
    for folder in {kept, *(file.kept.parent for file in image_files)}:
        remove_old_partials(folder)  # small versions of patients' images, of killed audits
    gpu = bool(capacity().get("GPU")) if settings.use_gpu is None else settings.use_gpu
    if gpu:
        require_resource("GPU", 1, "a task of the audit has one. Set audit.use_gpu=false, or join a cluster with GPUs.")
    resources = TaskResources(settings.cpus_per_task, gpu)
    with Progress("measure", sum(file.num_rows for file in image_files), "images") as progress:
        measure_all(image_files, network, resources, progress.advance)
    wanted = searches()
    with Progress("match", sum(len(search.queries) for search in wanted.values()), "images") as progress:
        return match_all(wanted, kept, resources, progress.advance)


def control_searches(train: Measured, held_out: Measured, held_out_codes: NDArray[np.int64]) -> dict[str, Search]:
    """Searches from held-out images to training images, and to held-out images of other subjects (`held_out_codes`)."""
    of_held_out = Side(held_out, np.arange(len(held_out)), held_out_codes)
    return {
        "held_out_to_train": Search(of_held_out, Side(train, np.arange(len(train)))),
        "held_out_to_held_out": Search(of_held_out, of_held_out),
    }


def check_control(shards: ShardSet, false_alarm: float) -> None:
    """Raise ShardError if there are no training images, or too few held-out ones for `false_alarm`."""
    if not shards.num_rows("train"):
        raise ShardError(f"{shards.folder} has no training images. Give the shards that the model was trained on.")
    held_out = sum(shards.num_rows(split) for split in HELD_OUT)
    needed = min_control(false_alarm / NUM_MEASURES)
    if held_out < needed:
        most = math.ceil(1000 * NUM_MEASURES / (held_out + 1)) / 1000
        raise ShardError(
            f"{shards.folder} has {held_out} held-out images (validate and test). A false-alarm rate of "
            f"{false_alarm:.2%}, split over {NUM_MEASURES} measures, needs at least {needed} as the control. Ingest "
            f"with more held-out subjects"
            + (f", or set audit.false_alarm={most:g}." if most <= _MAX_FALSE_ALARM else ".")
        )


def find_encoder(config: Config, run: Path | None) -> ChestEncoderConfig | None:
    """Encoder of the settings, else of the run folder; None: random weights. Raises ConfigError if its file is
    missing or does not fit its settings."""
    key, encoder = config.measuring_encoder("audit")
    if encoder is None and run is not None:
        encoder = _encoder_of(run)
    if encoder is not None:
        checked_facts(key, encoder)
    return encoder


def _encoder_of(run: Path) -> ChestEncoderConfig | None:
    """Encoder of the run folder's settings. Raises ConfigError if its file is no longer there."""
    settings = RunFolder.open(run, "train").config
    own = settings.model.chest_encoder
    encoder = settings.validation.encoder or (own if own is not None and own.weights is not None else None)
    if encoder is not None and encoder.weights is not None and not encoder.weights.exists():
        raise ConfigError(f"The encoder of {run}, {encoder.weights}, does not exist. Set audit.encoder.weights to it.")
    return encoder


def measured_in(config: Config, run: Path | None, shards: ShardSet, dataset: Path) -> Path:
    """Folder of measured images, which any number of audits can share. run: a run folder, which then holds it."""
    default = beside(shards.folder, "measured") if run is None else run / "audit" / "measured"
    return kept_in(config.audit.measured, default, "audit.measured", dataset)


def encoder_remarks(encoder: ChestEncoderConfig | None, shards: ShardSet) -> Sequence[str]:
    """Caveats for distances by its features."""
    if encoder is None:
        return [
            "Features are those of a small DenseNet of random weights: they tell images apart, but know nothing of "
            "chests. Give audit.encoder.weights for features that do."
        ]
    return same_collection_remarks(encoder, shards, "read distances by features with care")
