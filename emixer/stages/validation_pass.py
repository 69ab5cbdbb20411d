"""From the config to a validator and its figures. Needs no Ray: workers use it, and so can a script without."""

from collections.abc import Iterator

import torch

from emixer.config import Config
from emixer.data.loader import HostBatch, WindowReader, open_windows
from emixer.data.shards import ShardSet
from emixer.evaluation.features import Network
from emixer.evaluation.validation import Validator
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, ModelSpec, PairedModel
from emixer.training.step import to_device

_STEP = 2**62 + 1
"""Noise step of the validation pass: the same noise each time, so that metrics differ by the model alone."""
_BATCH = 64


def prepare_validator(config: Config, spec: ModelSpec, train: WindowReader, device: torch.device) -> Validator:
    """Measures the real images that the config asks for. train: its images teach the probe."""
    assert config.data.shards is not None, "checked before the workers started"
    model, settings = config.model, config.validation
    shards = ShardSet.open(config.data.shards)
    validate = open_windows(
        shards, "validate", config.data, config.seed, model.max_sentences, model.max_words, conditions=spec.conditions
    )
    return Validator.prepare(
        Network(settings.encoder).load(device),
        spec,
        _device_batches(train.read_rows(settings.judge_images), device),
        list(_device_batches(validate.read_rows(settings.images), device)),
        settings.judge,
        shards.info.report_language,
    )


def validated(validator: Validator, model: PairedModel, config: Config) -> dict[str, float]:
    """Metrics of `model`, with the same noise at each call."""
    num = sum(len(batch) for batch in validator.batches)
    noise = RowNoise(config.seed, _STEP, 0, num, validator.extractor.device)
    return validator.validate(model, noise, config.generate.temperature)


def _device_batches(rows: HostBatch, device: torch.device) -> Iterator[Batch]:
    for start in range(0, len(rows), _BATCH):
        yield to_device(rows.rows(start, start + _BATCH), device)
