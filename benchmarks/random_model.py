"""Models of random weights. An attentive one writes longer reports than a trained one does. Nothing to run."""

from pathlib import Path

import torch

from emixer.config import Config
from emixer.data.labels import CHEXPERT
from emixer.data.vocabulary import SPECIAL_TOKENS
from emixer.generation.trained_model import TrainedModel
from emixer.model_kinds import build_model
from emixer.models.paired_model import ModelSpec

VOCABULARY = 1000


def random_model(config: Config) -> TrainedModel:
    """The config's model as it is before training."""
    tokens = SPECIAL_TOKENS + tuple(f"word{i}" for i in range(VOCABULARY))
    vectors = tuple(tuple(int(i == y) for i in range(len(CHEXPERT))) for y in range(len(CHEXPERT)))
    spec = ModelSpec(CHEXPERT, tokens, vectors, (1,) * len(CHEXPERT))
    torch.manual_seed(0)
    model = build_model(config.model, spec, load_weights=False)
    sampling = tuple(model.ema_modules())
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(sampling)}
    return TrainedModel(config.model, spec, tensors, 0, "random", Path("random"), {})
