"""From the config to the game that a model plays, and when."""

from emixer.config.model import (
    CoganModelConfig,
    EmixerModelConfig,
    JointganModelConfig,
    ModelConfig,
    SmganModelConfig,
)
from emixer.config.training import LossConfig
from emixer.losses.cogan_objective import CoganObjective
from emixer.losses.emixer_objective import EmixerObjective
from emixer.losses.jointgan_objective import JointganObjective
from emixer.losses.smgan_objectives import DecoderObjective, FilmObjective
from emixer.models.paired_model import Phases


def build_phases(model: ModelConfig, loss: LossConfig) -> Phases:
    """The games of this kind of model. Raises ConfigError when a player has no term switched on."""
    match model:
        case EmixerModelConfig():
            if model.decoder_share == 0:
                return Phases.single(EmixerObjective(loss, model.gumbel))
            return Phases((model.decoder_share,), (DecoderObjective(loss), EmixerObjective(loss, model.gumbel)))
        case CoganModelConfig():
            return Phases.single(CoganObjective(loss, model.gumbel))
        case JointganModelConfig():
            return Phases.single(JointganObjective(loss, model.gumbel))
        case SmganModelConfig():
            return Phases((1 - model.decoder_share,), (FilmObjective(loss), DecoderObjective(loss)))
