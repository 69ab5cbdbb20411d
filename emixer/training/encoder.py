"""Training of the chest encoder: a DenseNet that predicts labels from images, binary cross-entropy over known labels.

No random state is kept: augmentation draws from (seed, step, row), the learning rate is a function of the images seen.

Shapes: B images of a micro-batch on this worker, Y labels, C channels, H = W side [px].
Source: EMIXER §3.2.2 asks for a "pretrained" DenseNet-121; Irvin et al. 2019 (CheXpert: U-Ignore, U-Zeros, U-Ones).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from emixer.checkpoint import NETWORKS, OPTIMIZER, Checkpoint, find_checkpoint
from emixer.config import Config
from emixer.config.training import EncoderConfig
from emixer.data.loader import HostBatch, WindowReader
from emixer.data.order import DataOrder, Position
from emixer.errors import CheckpointError
from emixer.losses.augmentation import NUM_UNIFORMS, augmented
from emixer.losses.terms import Terms
from emixer.models.batch_norm import eval_mode
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.noise import RowNoise
from emixer.models.workers import rank, world_size
from emixer.run_folder import RunFolder
from emixer.training.gradients import sum_gradients, sum_over_workers
from emixer.training.plan import MakeReporter, TrainPlan
from emixer.training.reporter import Recorder, wait_for_all
from emixer.training.state import load_moments, moments_of
from emixer.training.step import autocast, images_to_device, mirrored, moved


@dataclass
class EncoderState:
    """The encoder, its optimizer and counters."""

    config: Config
    label_names: tuple[str, ...]
    model: ChestEncoder
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    position: Position
    iteration: int = 0
    best: float | None = None
    """Lowest 1 - mean AUC so far."""

    sample_every_images: None = None
    remedy: str = "encoder.lr"

    @property
    def schedule(self) -> EncoderConfig:
        """Length, intervals and workers of the run."""
        return self.config.encoder

    @property
    def images_per_iteration(self) -> int:
        """Images per step."""
        return self.config.encoder.batch_size

    @property
    def images(self) -> int:
        """Images trained on so far."""
        return self.iteration * self.images_per_iteration

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of a checkpoint, by file."""
        return {NETWORKS: self.model.state_dict(), OPTIMIZER: moments_of(self.optimizer, "encoder")}

    def describe(self) -> dict[str, Any]:
        """The JSON part of a checkpoint."""
        return {
            "iteration": self.iteration,
            "position": asdict(self.position),
            "network": self.config.encoder.network.model_dump(mode="json"),
            "label_names": list(self.label_names),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint. Raises CheckpointError when it is damaged or belongs to another encoder."""
        state = checkpoint.state
        if tuple(state["label_names"]) != self.label_names:
            raise CheckpointError(
                f"{checkpoint.path} was trained for the labels {', '.join(state['label_names'])}, but the shards have "
                f"{', '.join(self.label_names)}. Resume with the shards it was trained on, or start a new run folder."
            )
        device = str(self.device)
        try:
            self.model.load_state_dict(checkpoint.tensors(NETWORKS, device))
            load_moments(self.optimizer, checkpoint.tensors(OPTIMIZER, device), "encoder")
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"{checkpoint.path} does not fit this encoder ({str(error).splitlines()[0]}). "
                "Resume with the config of that run, or start a new run folder."
            ) from error
        self.scaler.load_state_dict(state["scaler"])
        self.iteration, self.best = state["iteration"], state["best"]
        self.position = Position(**state["position"])


class EncoderReporter(Recorder):
    """Reporter of an encoder run. measure: metrics of an encoder in eval mode, including "auc". conclude: called once
    at the end, on the first worker, with the best encoder in place and the number of images that it had seen."""

    def __init__(
        self, folder: RunFolder, state: EncoderState, order: DataOrder,
        measure: Callable[[EncoderState], dict[str, float]], conclude: Callable[[EncoderState, int], None],
    ) -> None:  # fmt: skip
        super().__init__(folder, state, order)
        self._encoder = state
        self._measure, self._conclude = measure, conclude

    def sample(self) -> None:
        """Do nothing: an encoder generates no images."""

    def validate(self) -> None:
        """Measure the encoder and keep the best, identically on every worker."""
        missed = math.inf
        if rank() == 0:
            with eval_mode(self._encoder.model):
                metrics = self._measure(self._encoder)
            self._record_validation(metrics)
            missed = 1 - metrics["auc"] if "auc" in metrics else math.inf
        self._keep_if_best(missed)

    def finish(self) -> None:
        """Conclude with the best encoder, or the last if none could be measured."""
        if rank() == 0:
            folder = self._folder.checkpoints
            kept = find_checkpoint(folder, "best") or find_checkpoint(folder, "last")
            assert kept is not None, "a finished run has a checkpoint"
            device = str(self._encoder.device)
            self._encoder.model.load_state_dict(kept.tensors(NETWORKS, device))
            with eval_mode(self._encoder.model):
                self._conclude(self._encoder, kept.images)
        wait_for_all()


EncoderPlan = TrainPlan[EncoderState]


def encoder_plan(
    config: Config, label_names: tuple[str, ...], reader: WindowReader, run: Path,
    make_reporter: MakeReporter[EncoderState],
) -> EncoderPlan:  # fmt: skip
    """Return the plan of `emixer encoder`."""
    make_state = partial(_initial_state, label_names)
    return TrainPlan(config, config.encoder, reader, run, make_state, encoder_iteration, make_reporter)


def _initial_state(label_names: tuple[str, ...], plan: EncoderPlan, device: torch.device) -> EncoderState:
    settings = plan.config.encoder
    model = ChestEncoder(settings.network, num_labels=len(label_names)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], settings.lr, weight_decay=settings.weight_decay, fused=True
    )
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    return EncoderState(plan.config, label_names, model, optimizer, scaler, device, Position(world_size()))


def encoder_iteration(state: EncoderState, batches: Iterator[HostBatch]) -> Terms:
    """Train `state` for one step. Term "encoder/loss": mean binary cross-entropy over known labels [nats]."""
    settings = state.config.encoder
    host = next(batches)
    image_BCHW = images_to_device(host.image, state.device)
    labels_BY, known_BY = moved(host.labels, state.device).float(), moved(host.known, state.device)
    weight = 1 / sum_over_workers(known_BY.sum().double()).clamp_(min=1).float()
    num = len(host)
    noise = RowNoise(state.config.seed, state.iteration, rank() * num, num, state.device)
    if state.config.data.horizontal_flip:
        image_BCHW = mirrored(image_BCHW, noise)
    if settings.augment:
        image_BCHW = augmented(image_BCHW, noise.uniform("augment/encoder", NUM_UNIFORMS), settings.augment)
    for group in state.optimizer.param_groups:
        group["lr"] = settings.lr * _decay(state.images / settings.images)
    state.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=state.device)
    micro_rows = num // settings.accumulate
    for first in range(0, num, micro_rows):
        rows = slice(first, first + micro_rows)
        with autocast(settings.precision, state.device):
            logits_BY = state.model.logits(state.model.final_features(image_BCHW[rows]))
        each_BY = functional.binary_cross_entropy_with_logits(logits_BY, labels_BY[rows], reduction="none")
        loss = each_BY.where(known_BY[rows], 0.0).sum() * weight
        state.scaler.scale(loss).backward()
        total += loss.detach()
    sum_gradients([p for group in state.optimizer.param_groups for p in group["params"]])
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.iteration += 1
    return {"encoder/loss": total}


def _decay(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
