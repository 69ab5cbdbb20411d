"""From the config to the game that a model plays."""

from emixer.config.model import EmixerModelConfig, ModelConfig
from emixer.config.training import LossConfig
from emixer.losses.emixer_objective import EmixerObjective
from emixer.models.paired_model import Objective


def build_objective(model: ModelConfig, loss: LossConfig) -> Objective:
    """The objective of this kind of model. Raises ConfigError when no term is switched on for the critics."""
    match model:
        case EmixerModelConfig():
            return EmixerObjective(loss, model.gumbel)
