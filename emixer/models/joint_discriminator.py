"""Joint discriminator: an image and its report -> whether they belong together and are real.

Shapes: B images, C channels, H = W side [px], F features, S sentences, W words of a sentence, E embedding.
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


class PairFeatures(nn.Module):
    """Unpooled features of its own CNN, concatenated with the last LSTM state."""

    def __init__(self, config: JointDiscriminatorConfig, num_words: int, side_px: int, image_channels: int) -> None:
        super().__init__()
        self.blocks = down_blocks(config.channels, side_px, image_channels, spectral_norm=True)
        self.reader = ReportReader(num_words, config.word_embedding, config.hidden)
        self.embed_report = spectrally_normalized(nn.Linear(config.hidden, config.hidden))
        self.image_size = block_widths(config.channels, num_blocks(side_px))[-1]
        self.pair_size = self.image_size * STEM_PX**2 + config.hidden

    def image_map(self, image_BCHW: Tensor) -> Tensor:
        """Return features of images at 4 x 4 positions, float32."""
        return functional.relu(self.blocks(image_BCHW)).float()

    def pair_features(self, image_map_BFHW: Tensor, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Return features (B, pair_size) of images, given as `image_map`, and of words embedded by `reader`."""
        return torch.cat([image_map_BFHW.flatten(1), self.report_state(embedded_BSWE, valid_BSW)], dim=1)

    def report_state(self, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Return the features of reports of words embedded by `reader`, (B, H) float32."""
        state_BH: Tensor = self.embed_report(self.reader(embedded_BSWE, valid_BSW))
        return state_BH.float()


class JointDiscriminator(PairFeatures):
    """D_joint(I, S): features of the pair, then linear layers."""

    def __init__(self, config: JointDiscriminatorConfig, num_words: int, side_px: int, image_channels: int) -> None:
        super().__init__(config, num_words, side_px, image_channels)
        self.head = linear_layers(self.pair_size, config.hidden)

    def forward(self, image_BCHW: Tensor, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Return the logit (B,) of being a real pair, float32, for words embedded by `reader`."""
        return self.logit(self.image_map(image_BCHW), self.report_state(embedded_BSWE, valid_BSW))

    def logit(self, image_map_BFHW: Tensor, report_BH: Tensor) -> Tensor:
        """Return the logit (B,) of images, given as `image_map`, with reports, given as `report_state`."""
        logit_B1: Tensor = self.head(torch.cat([image_map_BFHW.flatten(1), report_BH], dim=1))
        return logit_B1.squeeze(1).float()
