"""Features of the images that are compared, from each network that the settings name; cached by content.

Shapes: N images, F features.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emixer import files
from emixer.checkpoint import write_tensors
from emixer.config import Config
from emixer.config.model import ChestEncoderConfig
from emixer.data.pair_table import PairTable
from emixer.evaluation.features import Features, Network
from emixer.evaluation.outside_features import inception, rad_dino
from emixer.progress import Progress
from emixer.stages.evaluate.sides import Sides, content_of

_BATCH = 64


@dataclass(frozen=True)
class FeatureNetwork:
    """A feature network, ours or another's, not yet loaded. identity: of its weights and preprocessing."""

    name: str
    identity: str
    resized: str
    make: Callable[[torch.device], Features]

    @classmethod
    def of(cls, encoder: ChestEncoderConfig | None) -> "FeatureNetwork":
        """The network of a chest encoder, or the random one."""
        network = Network(encoder)
        return cls(network.name, network.identity, network.resized, network.load)


def feature_networks(config: Config) -> list[FeatureNetwork]:
    """Feature networks, a chest encoder first if there is one; the label judge uses features of the first."""
    settings = config.evaluate
    found: list[FeatureNetwork] = []
    _, encoder = config.measuring_encoder("evaluate")
    if encoder is not None:
        found.append(FeatureNetwork.of(encoder))
    found.append(FeatureNetwork.of(None))
    if settings.inception is not None:
        weights = settings.inception
        found.append(_outside("inception", weights, "bilinear to 299 px", lambda device: inception(weights, device)))
    if settings.rad_dino is not None:
        folder = settings.rad_dino
        found.append(_outside("rad_dino", folder, "by its preprocessor", lambda device: rad_dino(folder, device)))
    return found


def _outside(name: str, weights: Path, resized: str, make: Callable[[torch.device], Features]) -> FeatureNetwork:
    parts = sorted(p for p in weights.rglob("*") if p.is_file()) if weights.is_dir() else [weights]
    digest = hashlib.sha256("".join(map(files.sha256_of, parts)).encode()).hexdigest()
    return FeatureNetwork(name, f"{name}/{digest}", resized, make)


def all_features(
    network: FeatureNetwork, device: torch.device, kept: Path, sides: Sides, progress: Progress
) -> dict[str, Tensor]:
    """Features (N, F) on the CPU of the real, generated and train images, cached in files by network and images."""
    tables = {
        "real": (sides.real, content_of(sides.shards, sides.split, sides.num)),
        "generated": (sides.generated, sides.made_of),
        "sample": (sides.sample, content_of(sides.shards, "train", sides.num)),
    }
    found, extractor = {}, None
    for kind, (table, content) in tables.items():
        key = hashlib.sha256(f"{network.identity}\n{content}".encode()).hexdigest()[:24]
        path = kept / f"{key}.safetensors"
        features = _kept_features(path)
        if len(features) != len(table):
            extractor = extractor or network.make(device)
            features = _measured(extractor, table, progress)
            with files.written_aside(path) as aside:
                write_tensors(aside, {"features": features})
        else:
            progress.advance(len(table))
        found[kind] = features
    return found


def _measured(extractor: Features, table: PairTable, progress: Progress) -> Tensor:
    parts = []
    for batch in table.batches(_BATCH):
        parts.append(extractor(torch.from_numpy(np.array(batch.image_NHW)).unsqueeze(1)).cpu())
        progress.advance(len(batch), by=extractor.name)
    return torch.cat(parts)


def _kept_features(path: Path) -> Tensor:
    """Cached features; empty if there are none or they cannot be read, so that they are computed again."""
    try:
        features: Tensor = load_file(path)["features"]
    except (OSError, KeyError, SafetensorError):
        return torch.empty(0)
    return features
