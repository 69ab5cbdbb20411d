"""The complete state of a training run, and how it is saved and restored.

It holds no random state: noise and data order are functions of the seed and of the counters below.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from emixer.checkpoint import NETWORKS, OPTIMIZER, SAMPLER, Checkpoint
from emixer.config import Config
from emixer.config.training import TrainConfig
from emixer.data.order import Position
from emixer.errors import CheckpointError
from emixer.models.paired_model import Adaptive, LabelPrior, ModelSpec, PairedModel, Phases
from emixer.training.ema import MovingAverage

_REPORT = "report"
"""Parameter group of F."""
_REPORT_DECODER = "report_decoder"
"""Name of the submodule that rests in SM-GAN's first phase."""
_LAST_SHARE = 0.05
"""Fraction of F's learning rate left at the end of a run that decays it."""


@dataclass
class TrainState:
    """Networks, optimizers and counters. `iteration` counts generator steps; each shows the critics new images."""

    config: Config
    spec: ModelSpec
    model: PairedModel
    phases: Phases
    prior: LabelPrior
    ema: MovingAverage
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    position: Position
    training_data: dict[str, Any]
    iteration: int = 0
    best: float | None = None
    """Best value of the validation metric so far."""

    @property
    def schedule(self) -> TrainConfig:
        """Length, intervals and workers of the run."""
        return self.config.train

    @property
    def sample_every_images(self) -> int:
        """Interval of sample grids [images]."""
        return self.config.train.sample_every_images

    @property
    def remedy(self) -> str:
        """Settings to lower or change when losses are not finite."""
        return "optim.lr_*, or loss.adversarial=hinge"

    @property
    def images_per_iteration(self) -> int:
        """Real images that one iteration shows to the discriminators."""
        return self.config.optim.discriminator_steps * self.config.train.batch_size

    @property
    def images(self) -> int:
        """Real images trained on so far."""
        return self.iteration * self.images_per_iteration

    @property
    def progress(self) -> float:
        """Fraction of the run completed."""
        return self.images / self.config.train.images

    @classmethod
    def create(
        cls, config: Config, spec: ModelSpec, model: PairedModel, phases: Phases, device: torch.device,
        position: Position, training_data: Mapping[str, Any] | None = None,
    ) -> "TrainState":  # fmt: skip
        """Create the state of a new run, with `model` moved to `device`, convolutions in channels-last layout.

        training_data: what its checkpoints say of the data, by which the cards of its datasets name the collection.
        """
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.train()
        groups = model.generator_parameters()
        optim = config.optim
        generator_groups = [
            {"params": groups["image"], "lr": optim.lr_generator, "name": "image"},
            {
                "params": groups["report"],
                "lr": optim.lr_report_decoder or optim.lr_generator,
                "betas": (optim.beta1_report_decoder, optim.beta2),
                "name": _REPORT,
            },
        ]
        return cls(
            config=config,
            spec=spec,
            model=model,
            phases=phases,
            prior=LabelPrior(spec).to(device),
            ema=MovingAverage(model, tuple(model.ema_modules()), config.train.ema_half_life_images),
            generator_optimizer=_adam([g for g in generator_groups if g["params"]], config),
            discriminator_optimizer=_adam(
                [{"params": model.discriminator_parameters(), "lr": optim.lr_discriminator}], config
            ),
            scaler=torch.amp.GradScaler(device.type, enabled=config.train.precision == "fp16"),
            device=device,
            position=position,
            training_data=dict(training_data or {}),
        )

    def follow_schedule(self) -> None:
        """Set F's learning rate for the next step: a function of the images seen since F's training began, which in
        SM-GAN is late in the run, so there is nothing to save."""
        optim = self.config.optim
        rate = optim.lr_report_decoder or optim.lr_generator
        began = self.phases.trained_since(self.progress, (_REPORT_DECODER,)).get(_REPORT_DECODER, 0.0)
        seen = self.images - began * self.config.train.images
        if seen + self.images_per_iteration < optim.warmup_images_report_decoder:
            rate *= (seen + self.images_per_iteration) / optim.warmup_images_report_decoder
        if optim.decay_report_decoder:
            rate *= 1 - (1 - _LAST_SHARE) * min(1.0, (self.progress - began) / (1 - began))
        for group in self.generator_optimizer.param_groups:
            if group["name"] == _REPORT:
                group["lr"] = rate

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of a checkpoint, by file."""
        moments = {
            key: v for name, optimizer in self._optimizers().items() for key, v in moments_of(optimizer, name).items()
        }
        return {SAMPLER: self.ema.state_dict(), NETWORKS: self.model.state_dict(), OPTIMIZER: moments}

    def describe(self) -> dict[str, Any]:
        """The JSON part of a checkpoint."""
        return {
            "iteration": self.iteration,
            "position": asdict(self.position),
            "model": self.config.model.model_dump(mode="json"),
            "spec": self.spec.to_json(),
            "training_data": self.training_data,
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "best_by": self._best_by,
            "augment": [None if part is None else part.probability.item() for part in self._adaptive()],
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint. Raises CheckpointError when it is damaged or belongs to another model."""
        state = checkpoint.state
        kinds_there = _kinds(state["model"])
        for name, kind in _kinds(self.config.model.model_dump(mode="json")).items():
            if kinds_there[name] != kind:
                raise CheckpointError(
                    f"{checkpoint.path} was trained with {name}={kinds_there[name]}, but this run has {name}={kind}. "
                    f"Set {name}={kinds_there[name]}, or start a new run folder."
                )
        if ModelSpec.from_json(state["spec"]) != self.spec:
            raise CheckpointError(
                f"{checkpoint.path} was trained on data with other labels, another vocabulary or other label counts. "
                "Resume with the shards it was trained on, or start a new run folder."
            )
        device = str(self.device)
        try:
            self.model.load_state_dict(checkpoint.tensors(NETWORKS, device))
            self.ema.load_state_dict(checkpoint.tensors(SAMPLER, device))
            for name, optimizer in self._optimizers().items():
                load_moments(optimizer, checkpoint.tensors(OPTIMIZER, device), name)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"{checkpoint.path} does not fit this model ({str(error).splitlines()[0]}). "
                "Resume with the config of that run, or start a new run folder."
            ) from error
        self.scaler.load_state_dict(state["scaler"])
        for part, probability in zip(self._adaptive(), state.get("augment", []), strict=False):
            if part is not None:
                part.probability = torch.tensor(probability, device=self.device)
        self.iteration = state["iteration"]
        self.best = state["best"] if state.get("best_by", self._best_by) == self._best_by else None
        self.position = Position(**state["position"])

    @property
    def _best_by(self) -> dict[str, Any]:
        """What `best` is measured by: settings that may change when a run resumes, but make its values incomparable."""
        validation = self.config.validation
        metric = self.phases.selects_by(validation.metric)
        encoder = validation.encoder.model_dump(mode="json") if validation.encoder and metric == "fid" else None
        return {"metric": metric, "images": validation.images, "encoder": encoder}

    def _adaptive(self) -> list[Adaptive | None]:
        return [objective.adaptive for objective in self.phases.objectives]

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer}


def _kinds(model: dict[str, Any]) -> dict[str, str]:
    """Return the kinds of the model and of its report decoder, by setting."""
    return {"model.kind": model["kind"], "model.report_decoder.kind": model["report_decoder"].get("kind")}


def _adam(groups: list[dict[str, Any]], config: Config) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, betas=(config.optim.beta1, config.optim.beta2), fused=True)


def moments_of(optimizer: torch.optim.Optimizer, name: str) -> dict[str, Tensor]:
    """Return Adam's moments by <name>.<index of the parameter>.<moment>."""
    return {
        f"{name}.{index}.{key}": value
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], name: str) -> None:
    """Inverse of `moments_of`; `tensors` may hold other optimizers' moments too."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        owner, index, field = key.split(".")
        if owner == name:
            parameter = parameters[int(index)]
            # The fused kernel walks memory: a moment needs its parameter's strides, which a file does not keep
            # What is kept is a copy, or the file would stay mapped, and NFS could not delete its checkpoint
            fits = tensor.shape == parameter.shape
            laid_out = torch.empty_like(parameter).copy_(tensor) if fits else tensor.clone()
            state.setdefault(int(index), {})[field] = laid_out
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
