"""Images -> features, for FID and for the label judge.

With weights: final features of the project's DenseNet-121. Without: a small DenseNet whose random weights come from a
fixed seed. Random features do separate images, but their distances are not comparable with published ones: the name
`random_densenet` is part of every metric computed from them.

Shapes: B images of a batch, N images, C channels, H = W side [px], F features.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from emixer import files
from emixer.config.model import ChestEncoderConfig
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.encoder_facts import read_encoder_facts
from emixer.models.fixed_kernels import fixed_kernels

_RANDOM_NAME, _RANDOM_PX = "random_densenet", 64
"""Name of the small random DenseNet, and the size that its images are resized to [px]."""
_RANDOM_SEED = 20200711
_RANDOM_CONFIG = ChestEncoderConfig(
    growth=16, blocks=(4, 8, 12, 8), stem_channels=32, input_px=_RANDOM_PX, weights=None, frozen=False
)


class Features(Protocol):
    """A feature extractor for images."""

    name: str
    """Name of the network; part of metric names."""
    num_features: int
    device: torch.device

    def __call__(self, image_BCHW: Tensor) -> Tensor:
        """Features (B, F) float32, without gradient, on `device`. Images: uint8 gray values, or floats in [-1, 1]."""
        ...

    def over(self, batches: Iterable[Tensor]) -> Tensor:
        """Features (N, F) of batches of images, which are released one by one."""
        features = [self(batch) for batch in batches]
        return torch.cat(features) if features else torch.empty(0, self.num_features, device=self.device)


class FeatureExtractor(Features):
    """Deterministic image features of a chest encoder. `name` identifies it and is part of metric names."""

    def __init__(
        self, encoder: ChestEncoder, name: str, device: torch.device, label_names: tuple[str, ...] = ()
    ) -> None:
        self.name, self.device = name, device
        self.num_features = encoder.classifier.in_features
        self.input_px = encoder.input_px
        self.label_names = label_names
        """Labels of `label_logits`; empty if the meaning of the encoder's outputs is unknown."""
        self._encoder = encoder.requires_grad_(False).eval().to(device)
        self._encoder.to(memory_format=torch.channels_last)  # half the time on a CPU

    @classmethod
    def pretrained(cls, config: ChestEncoderConfig, device: torch.device) -> Self:
        """DenseNet with `config.weights`, named after that file. Raises CheckpointError when they do not fit."""
        assert config.weights is not None, "FeatureExtractor.random is the one without weights"
        facts = read_encoder_facts(config.weights)
        label_names = facts.label_names if facts else ()
        encoder = ChestEncoder(config, num_labels=len(label_names) or 1)
        name = re.sub(r"\W+", "_", _named_after(config.weights).lower()).strip("_")
        return cls(encoder, name, device, label_names)

    @classmethod
    def random(cls, device: torch.device) -> Self:
        """Small random DenseNet, with the same weights on every machine."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            encoder = ChestEncoder(_RANDOM_CONFIG, num_labels=1)
        return cls(encoder, _RANDOM_NAME, device)

    @torch.no_grad()
    def __call__(self, image_BCHW: Tensor) -> Tensor:
        """Features (B, F), in full float32 on any device: stored ones of a CPU are compared with those of a GPU.

        Images: uint8 gray values, or floats in [-1, 1].
        """
        image_BCHW = image_BCHW.to(self.device)
        if image_BCHW.dtype == torch.uint8:
            image_BCHW = image_BCHW.float() / 127.5 - 1
        with fixed_kernels(self.device, "ieee", deterministic=True):
            return self._encoder.final_features(image_BCHW.float())

    @torch.no_grad()
    def label_logits(self, features_NF: Tensor) -> Tensor:
        """Logits (N, labels of `label_names`) of the encoder's classifier on features."""
        with fixed_kernels(self.device, "ieee", deterministic=True):
            return self._encoder.logits(features_NF)


@dataclass(frozen=True)
class Network:
    """A feature extractor that is not loaded yet. config: None for the small one with random weights."""

    config: ChestEncoderConfig | None

    @property
    def name(self) -> str:
        """Readable name of the encoder."""
        if self.config is None:
            return _RANDOM_NAME
        return "torchxrayvision" if self.config.weights_from == "torchxrayvision" else "chest_encoder"

    @property
    def resized(self) -> str:
        """How images are resized for it."""
        return f"bilinear to {_RANDOM_PX if self.config is None else self.config.input_px} px"

    @property
    def identity(self) -> str:
        """Identity of the weights and the preprocessing: features that are kept in files are found by it."""
        if self.config is None:
            return f"{_RANDOM_NAME}/1"
        assert self.config.weights is not None, "checked before anything is measured"
        return f"{files.sha256_of(self.config.weights)}/{self.config.input_px}/{self.config.weights_from}"

    def load(self, device: torch.device) -> FeatureExtractor:
        """Load the encoder. Raises CheckpointError when the weights do not fit."""
        return (
            FeatureExtractor.random(device) if self.config is None else FeatureExtractor.pretrained(self.config, device)
        )


def _named_after(weights: Path) -> str:
    """Stem of the file's name, or the run's name for `encoder.*`, the final file of every encoder run."""
    return weights.parent.name if weights.stem == "encoder" else weights.stem
