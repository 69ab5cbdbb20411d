"""Training of a downstream model: one process, one device, a fixed number of pairs seen, tested with the weights of the
lowest loss on real validation pairs.

Every mixture of data gets the same number of steps, so that only the data differs and not the length of training.

Shapes: B pairs of a batch, C channels, H = W side [px], Y labels, S sentences, W words of a sentence, U uniform
numbers an image.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emixer.config.experiment import DownstreamConfig
from emixer.data.pair_table import Mixture, PairTable
from emixer.data.vocabulary import PAD
from emixer.errors import DivergenceError
from emixer.losses.augmentation import NUM_UNIFORMS, augmented
from emixer.models.batch_norm import eval_mode
from emixer.training.step import autocast, images_to_device, moved

_ORDER, _AUGMENT = 0, 1
_EVAL_BATCH = 128

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class PairBatch:
    """Pairs on the device."""

    image_BCHW: Tensor
    """float32 in [-1, 1]."""
    labels_BY: Tensor
    """float32: 1 present, 0 absent, NaN unknown."""
    words_BSW: Tensor
    """int64 token ids."""
    num_report_words: int
    """Words of the longest report."""


LossOf = Callable[[Model, PairBatch], tuple[Tensor, Tensor]]
"""Returns a sum of losses [nats] over the batch's targets, and their number. Device scalars."""


@dataclass(frozen=True)
class Fit:
    """Result of training a model."""

    images: int
    """Pairs seen when it was best."""
    validation_loss: float


def fit(
    model: Model, loss_of: LossOf[Model], train: Mixture, validation: PairTable, settings: DownstreamConfig, seed: int,
    device: torch.device, selects_by: LossOf[Model] | None = None,
) -> Fit:  # fmt: skip
    """Train `model`, and leave it with the weights whose loss on `validation` was lowest.

    selects_by: that loss, where it is not the one that is minimised. Raises DivergenceError when no validation loss
    was finite.
    """
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay, fused=True)
    uniform = torch.Generator().manual_seed(seed * 2 + _AUGMENT)  # on the CPU: the same draws for every device
    best, best_state, seen = Fit(0, math.inf), model.state_dict(), 0
    next_look = min(settings.validate_every_images, settings.images)
    batches = _batches(train, settings.batch_size, seed)
    model.train()
    while seen < settings.images:
        batch = to_device(next(batches), device)
        image_BCHW = batch.image_BCHW
        if settings.augment:
            uniform_BU = torch.rand(len(image_BCHW), NUM_UNIFORMS, generator=uniform)
            image_BCHW = augmented(image_BCHW, moved(uniform_BU.numpy(), device), settings.augment)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * 0.5 * (1 + math.cos(math.pi * seen / settings.images))
        optimizer.zero_grad(set_to_none=True)
        with autocast(settings.precision, device):
            total, count = loss_of(model, replace(batch, image_BCHW=image_BCHW))
        (total / count.clamp(min=1)).backward()
        optimizer.step()
        seen += len(image_BCHW)
        if seen >= next_look:
            next_look = min(next_look + settings.validate_every_images, settings.images)
            loss = _mean_loss(model, selects_by or loss_of, validation, settings, device)
            if loss < best.validation_loss:
                best, best_state = Fit(seen, loss), copy.deepcopy(model.state_dict())
    if not math.isfinite(best.validation_loss):
        raise DivergenceError(
            "A downstream model's loss was never finite. Lower experiment.downstream.lr, or use "
            "experiment.downstream.precision=fp32."
        )
    model.load_state_dict(best_state)
    return best


def to_device(pairs: PairTable, device: torch.device) -> PairBatch:
    """Move pairs to the device; images travel as bytes."""
    return PairBatch(
        images_to_device(np.ascontiguousarray(pairs.image_NHW), device),
        moved(np.ascontiguousarray(pairs.labels_NY), device),
        moved(np.ascontiguousarray(pairs.words_NSW), device).long(),
        int((pairs.words_NSW != PAD).sum(axis=(1, 2)).max(initial=0)),
    )


@torch.no_grad()
def predict(
    model: Model, outputs_of: Callable[[Model, PairBatch], Tensor], pairs: PairTable, device: torch.device
) -> Tensor:
    """Return the model's output of each pair, in eval mode, on the CPU. outputs_of: rows of equal shape for a batch."""
    with eval_mode(model):
        return torch.cat([outputs_of(model, to_device(batch, device)).cpu() for batch in pairs.batches(_EVAL_BATCH)])


@torch.no_grad()
def _mean_loss(
    model: Model, loss_of: LossOf[Model], pairs: PairTable, settings: DownstreamConfig, device: torch.device
) -> float:
    sums = []
    with eval_mode(model), autocast(settings.precision, device):
        for batch in pairs.batches(_EVAL_BATCH):
            total, count = loss_of(model, to_device(batch, device))
            sums.append(torch.stack([total.double(), count.double()]))
    total, count = torch.stack(sums).sum(0).tolist()
    return total / count if count and math.isfinite(total) else math.inf


def _batches(train: Mixture, size: int, seed: int) -> Iterator[PairTable]:
    """Yield endless batches of one size, however few the pairs; each epoch in a different order."""
    assert len(train), "checked before anything started"
    epoch, left = 0, np.empty(0, np.int64)
    while True:
        while len(left) < size:
            left = np.concatenate([left, _order(len(train), seed, epoch)])
            epoch += 1
        yield train.take(left[:size])
        left = left[size:]


def _order(num: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(num)
