"""Films -> features, for FID and for the judge of labels.

With weights: the project's DenseNet-121, final features. Without: a small DenseNet whose random weights come from a
fixed seed. Random features do tell films apart, but distances in them compare with nothing published: the name
`random_densenet` goes into every metric that is made of them.

Shapes: B films of a batch, N films, C channels, H = W side [px], F features.
"""

import re
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn

from emixer.config.model import ChestEncoderConfig
from emixer.models.chest_encoder import ChestEncoder

RANDOM_NAME = "random_densenet"
_RANDOM_SEED = 20200711
_RANDOM_CONFIG = ChestEncoderConfig(
    growth=16, blocks=(4, 8, 12, 8), stem_channels=32, input_px=64, weights=None, frozen=False
)


class FeatureExtractor:
    """Deterministic features of films. `name` tells whose they are and becomes part of metric names."""

    def __init__(self, encoder: nn.Module, name: str, num_features: int, device: torch.device) -> None:
        self.name, self.num_features, self.device = name, num_features, device
        self._encoder = encoder.requires_grad_(False).eval().to(device)

    @classmethod
    def pretrained(cls, config: ChestEncoderConfig, device: torch.device) -> Self:
        """The DenseNet of `config.weights`, named after that file. Raises CheckpointError when it does not fit."""
        assert config.weights is not None, "FeatureExtractor.random is the one without weights"
        encoder = ChestEncoder(config, num_labels=1)
        name = re.sub(r"\W+", "_", config.weights.stem.lower()).strip("_")
        return cls(encoder, name, encoder.classifier.in_features, device)

    @classmethod
    def random(cls, device: torch.device) -> Self:
        """The small random DenseNet: the same weights on every machine."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_RANDOM_SEED)
            encoder = ChestEncoder(_RANDOM_CONFIG, num_labels=1)
        return cls(encoder, RANDOM_NAME, encoder.classifier.in_features, device)

    @torch.no_grad()
    def __call__(self, image_BCHW: Tensor) -> Tensor:
        """Features (B, F) float32 of films: uint8 gray values, or floats in [-1, 1]."""
        image_BCHW = image_BCHW.to(self.device)
        if image_BCHW.dtype == torch.uint8:
            image_BCHW = image_BCHW.float() / 127.5 - 1
        features_BF: Tensor = self._encoder.final_features(image_BCHW.float())  # type: ignore[operator]
        return features_BF

    def over(self, batches: Iterable[Tensor]) -> Tensor:
        """Features (N, F) of films that come in batches; films are let go batch by batch."""
        features = [self(batch) for batch in batches]
        return torch.cat(features) if features else torch.empty(0, self.num_features, device=self.device)
