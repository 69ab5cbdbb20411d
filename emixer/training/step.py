"""One iteration: two discriminator steps, one generator step (EMIXER §6.3.2). Independent of Ray and of EMIXER.

In a phase without critics the same batches go to generator steps instead, so that every iteration sees the same number
of images.

Shapes: B images of a micro-batch on this worker, Y labels.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from emixer.data.loader import HostBatch
from emixer.losses.terms import Terms
from emixer.models.frozen import frozen
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch, Objective, RowWeights
from emixer.models.workers import rank, world_size
from emixer.training.gradients import sum_gradients, sum_over_workers
from emixer.training.state import TrainState


def train_iteration(state: TrainState, batches: Iterator[HostBatch]) -> Terms:
    """Train `state` for one iteration. Returns the loss terms of this worker's rows, weighted so that their sum over
    workers is the mean over the global batch: device scalars, no host sync."""
    num_batches = state.config.optim.discriminator_steps
    objective = state.phases.at(state.progress)
    trained_since = state.phases.trained_since(state.progress, state.ema.names)
    side = "discriminator" if objective.has_critics else "generator"
    state.follow_schedule()
    terms: Terms = {}
    for index in range(num_batches):
        real = to_device(next(batches), state.device)
        weights = row_weights(real)
        step_terms = _step(state, objective, real, weights, index, of_generator=not objective.has_critics)
        for name, value in step_terms.items():
            terms[f"{side}/{name}"] = terms.get(f"{side}/{name}", 0) + value / num_batches
        if objective.adaptive is not None and objective.adaptive.adapts and "real_sign" in step_terms:
            real_sign = sum_over_workers(step_terms["real_sign"].clone())
            objective.adaptive.follow(real_sign, state.config.train.batch_size)
            share = objective.adaptive.probability / (num_batches * world_size())
            terms["augment/probability"] = terms.get("augment/probability", 0) + share
    if objective.has_critics:
        # The generators' real rows, for teacher forcing, are those of the last discriminator step
        generator_terms = _step(state, objective, real, weights, num_batches, of_generator=True)
        terms |= {f"generator/{name}": value for name, value in generator_terms.items()}
    state.iteration += 1
    trained_on = {name: state.images - int(began * state.config.train.images) for name, began in trained_since.items()}
    state.ema.update(state.images_per_iteration, trained_on)
    return terms


def to_device(host: HostBatch, device: torch.device) -> Batch:
    """Move a host batch to the device; images travel as bytes and are scaled to [-1, 1] there."""
    return Batch(
        image_BCHW=images_to_device(host.image, device),
        labels_BY=moved(host.labels, device).float(),
        labelled_B=moved(host.labelled, device),
        words_BSW=moved(host.words, device).long(),
        has_report_B=moved(host.has_report, device),
        num_report_words=int((host.words != PAD).sum(axis=(1, 2)).max(initial=0)),
    )


def images_to_device(image_NHW: np.ndarray, device: torch.device) -> Tensor:
    """Return uint8 images (N, H, W) as image_BCHW, float32 in [-1, 1]."""
    return moved(image_NHW, device).float().div_(127.5).sub_(1).unsqueeze(1)


def moved(array: np.ndarray, device: torch.device) -> Tensor:
    """Return the array on the device, without waiting for the copy."""
    if device.type == "cpu":
        with warnings.catch_warnings():
            # views into shared memory are read-only; nothing here writes to them
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(array)
    pinned = torch.empty(array.shape, dtype=_TORCH_DTYPES[array.dtype.name], pin_memory=True)
    pinned.numpy()[...] = array
    return pinned.to(device, non_blocking=True)


def mirrored(image_BCHW: Tensor, noise: RowNoise) -> Tensor:
    """Flip half of the images, drawn by `noise`, left to right."""
    return torch.where(noise.uniform("flip")[:, None, None, None] < 0.5, image_BCHW.flip(3), image_BCHW)


def row_weights(real: Batch) -> RowWeights:
    """Return the reciprocals of the global counts over which the loss terms average."""
    words_BSW = real.words_BSW
    has_sentence_BS = (words_BSW != PAD).any(dim=2)
    num_reports = real.has_report_B.sum()
    is_word_BSW = (words_BSW != PAD) & real.has_report_B[:, None, None]
    is_stop_BS = stop_targets(has_sentence_BS, real.has_report_B)
    counts = torch.stack([
        torch.full((), len(real), device=words_BSW.device),
        real.labelled_B.sum(),
        num_reports,
        is_word_BSW.sum(),
        is_stop_BS.sum(),
        (is_word_BSW & real.labelled_B[:, None, None]).sum(),
        (is_stop_BS & real.labelled_B[:, None]).sum(),
    ]).double()  # fmt: skip
    inverse = 1 / sum_over_workers(counts).clamp_(min=1)
    return RowWeights(*inverse.float().unbind())


def stop_targets(has_sentence_BS: Tensor, has_report_B: Tensor) -> Tensor:
    """Return which sentences have a stop target: all of them, CONTINUE or, for the last, STOP. bool (B, S)."""
    return has_sentence_BS & has_report_B[:, None]


@dataclass(frozen=True)
class _Side:
    """The parts of a step that depend on whether it trains discriminators or generators."""

    parameters: Sequence[nn.Parameter]
    opponents: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer


def _step(
    state: TrainState, objective: Objective, real: Batch, weights: RowWeights, index: int, of_generator: bool
) -> Terms:
    side = _side(state, of_generator)
    loss_of = objective.generator_loss if of_generator else objective.discriminator_loss
    num_micro = state.config.train.accumulate
    micro_rows = len(real) // num_micro
    noise = _noise(state, index, len(real))
    if state.config.data.horizontal_flip:
        real = replace(real, image_BCHW=mirrored(real.image_BCHW, noise))
    fake_labels_BY = state.prior.draw(noise.uniform("labels"))
    side.optimizer.zero_grad(set_to_none=True)
    state.model.begin_step()
    terms: Terms = {}
    with frozen(side.opponents):
        for micro in range(num_micro):
            first = micro * micro_rows
            with autocast(state.config.train.precision, state.device):
                loss, micro_terms = loss_of(
                    state.model,
                    real.rows(first, micro_rows),
                    fake_labels_BY[first : first + micro_rows],
                    noise.rows(first, micro_rows),
                    weights,
                )
            state.scaler.scale(loss).backward()
            for name, value in {"total": loss.detach(), **micro_terms}.items():
                terms[name] = terms[name] + value if name in terms else value
    sum_gradients(side.parameters)
    state.scaler.step(side.optimizer)
    state.scaler.update()
    return terms


def _side(state: TrainState, of_generator: bool) -> _Side:
    generators, critics = _learned_by(state.generator_optimizer), _learned_by(state.discriminator_optimizer)
    if of_generator:
        return _Side(generators, critics, state.generator_optimizer)
    return _Side(critics, generators, state.discriminator_optimizer)


def _learned_by(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _noise(state: TrainState, index: int, num_rows: int) -> RowNoise:
    steps_per_iteration = state.config.optim.discriminator_steps + 1
    return RowNoise(
        seed=state.config.seed,
        step=state.iteration * steps_per_iteration + index,
        first_row=rank() * num_rows,
        num_rows=num_rows,
        device=state.device,
    )


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the autocast context for a forward pass in `precision`: fp32, bf16 or fp16."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


_TORCH_DTYPES = {
    "uint8": torch.uint8, "bool": torch.bool, "int32": torch.int32, "int64": torch.int64, "float32": torch.float32
}  # fmt: skip
