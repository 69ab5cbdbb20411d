"""Joint discriminator: a film and its report -> do they belong together, and are they real.

Shapes: B films, C channels, H = W side [px], S sentences, W words of a sentence, E embedding.
Source: EMIXER §3.2.3, §6.2.2. Departures: docs/deviations.md#joint-discriminator.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import JointDiscriminatorConfig
from emixer.models.image_discriminator import down_blocks
from emixer.models.image_generator import STEM_PX, block_widths, num_blocks
from emixer.models.report_discriminator import linear_layers
from emixer.models.spectral_norm import spectrally_normalized
from emixer.models.words import ReportReader


class JointDiscriminator(nn.Module):
    """D_joint(I, S): features of its own CNN before pooling beside the last LSTM state, then linear layers."""

    def __init__(self, config: JointDiscriminatorConfig, num_words: int, side_px: int, image_channels: int) -> None:
        super().__init__()
        self.blocks = down_blocks(config.channels, side_px, image_channels, spectral_norm=True)
        self.reader = ReportReader(num_words, config.word_embedding, config.hidden)
        self.embed_report = spectrally_normalized(nn.Linear(config.hidden, config.hidden))
        image_features = block_widths(config.channels, num_blocks(side_px))[-1] * STEM_PX**2
        self.head = linear_layers(image_features + config.hidden, config.hidden)

    def forward(self, image_BCHW: Tensor, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Logit (B,) of being a real pair, float32, for words embedded by `reader`."""
        image_BF = functional.relu(self.blocks(image_BCHW)).float().flatten(1)
        report_BH = self.embed_report(self.reader(embedded_BSWE, valid_BSW)).float()
        logit_B1: Tensor = self.head(torch.cat([image_BF, report_BH], dim=1))
        return logit_B1.squeeze(1).float()
