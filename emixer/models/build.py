"""From the model's section of the config to its networks and its game."""

from emixer.config.model import EmixerModelConfig, ModelConfig
from emixer.models.emixer import Emixer
from emixer.models.paired_model import ModelSpec, PairedModel


def build_model(config: ModelConfig, spec: ModelSpec, load_weights: bool = True) -> PairedModel:
    """A model with fresh weights, its chest encoder's read from `encoder.weights` if that is set.

    `load_weights=False` skips that file: for a model whose whole state comes from a checkpoint next.
    Raises CheckpointError when the encoder's weights cannot be used.
    """
    match config:
        case EmixerModelConfig():
            return Emixer(config, spec, load_weights)
