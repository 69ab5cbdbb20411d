"""Build a model's networks from its section of the config."""

from emixer.config.model import (
    CoganModelConfig,
    EmixerModelConfig,
    JointganModelConfig,
    ModelConfig,
    SmganModelConfig,
)
from emixer.models.cogan import Cogan
from emixer.models.emixer import Emixer
from emixer.models.jointgan import Jointgan
from emixer.models.paired_model import ModelSpec, PairedModel
from emixer.models.smgan import Smgan


def build_model(config: ModelConfig, spec: ModelSpec, load_weights: bool = True) -> PairedModel:
    """Build a model with fresh weights, its chest encoder's (if it has one) read from `encoder.weights` if that is set.

    `load_weights=False` skips that file, for a model whose whole state is then loaded from a checkpoint.
    Raises CheckpointError when the encoder's weights cannot be used.
    """
    match config:
        case EmixerModelConfig():
            return Emixer(config, spec, load_weights)
        case CoganModelConfig():
            return Cogan(config, spec)
        case JointganModelConfig():
            return Jointgan(config, spec, load_weights)
        case SmganModelConfig():
            return Smgan(config, spec, load_weights)
