"""The kinds of models: which networks, and which games, a model's section of the config stands for.

A kind is one case in each of the two functions. How to add one: docs/extending.md.
"""

from emixer.config.model import (
    CoganModelConfig,
    EmixerModelConfig,
    JointganModelConfig,
    ModelConfig,
    SmganModelConfig,
)
from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.losses.cogan_objective import CoganObjective
from emixer.losses.emixer_objective import EmixerObjective
from emixer.losses.jointgan_objective import JointganObjective
from emixer.losses.smgan_objectives import DecoderObjective, ImageObjective
from emixer.models.cogan import Cogan
from emixer.models.emixer import Emixer
from emixer.models.jointgan import Jointgan
from emixer.models.paired_model import ModelSpec, Objective, PairedModel, Phases
from emixer.models.smgan import Smgan


def build_model(config: ModelConfig, spec: ModelSpec, load_weights: bool = True) -> PairedModel:
    """A model with fresh weights, its chest encoder's (if it has one) read from `encoder.weights` if that is set.

    `load_weights=False` skips that file: for a model whose whole state comes from a checkpoint next.
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


def build_phases(model: ModelConfig, loss: LossConfig) -> Phases:
    """Return the phases of this kind of model. Raises ConfigError when a player has no term switched on."""
    match model:
        case EmixerModelConfig():
            return _emixer_phases(model, loss)
        case CoganModelConfig():
            return Phases.single(CoganObjective(loss, model.gumbel))
        case JointganModelConfig():
            return Phases.single(JointganObjective(loss, model.gumbel))
        case SmganModelConfig():
            return Phases((1 - model.decoder_share,), (ImageObjective(loss), DecoderObjective(loss)))


def _emixer_phases(model: EmixerModelConfig, loss: LossConfig) -> Phases:
    ends: list[float] = []
    objectives: list[Objective] = []
    augment = None
    if model.words_share > 0:
        ends.append(model.words_share)
        objectives.append(DecoderObjective(loss))
    if model.images_share > 0:
        ends.append(model.words_share + model.images_share)
        if loss.image == loss.beta == 0:
            raise ConfigError(
                "loss.image and loss.beta are 0, so that D_image has nothing to learn while model.images_share trains "
                "G against it alone. Set one of them above 0, or model.images_share=0."
            )
        of_images = loss.model_copy(update={"report": 0.0, "joint": 0.0, "mismatched": 0.0})
        first_game = EmixerObjective(of_images, model.gumbel)
        augment = first_game.augment
        objectives.append(first_game)
    return Phases(tuple(ends), (*objectives, EmixerObjective(loss, model.gumbel, augment)))
