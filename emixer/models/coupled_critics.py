"""CoGAN's two critics, tied in their late layers: one representation decides whether images and reports are real.

Shapes: B images, C channels, H = W side [px], F features, Y labels, S sentences, W words of a sentence, E embedding.
Source: Liu & Tuzel 2016, §3 (weight sharing in the last layers of the discriminators); Miyato & Koyama 2018
(projection). Departures: docs/deviations.md#baselines.
"""

from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import CoganModelConfig
from emixer.models.image_discriminator import LabelledHeads, down_blocks
from emixer.models.image_generator import block_widths, num_blocks
from emixer.models.spectral_norm import spectrally_normalized
from emixer.models.words import ReportReader

_LEAK = 0.2


class CoupledCritics(LabelledHeads):
    """D_1 (images) and D_2 (reports): separate layers up to F features, then shared layers."""

    def __init__(self, config: CoganModelConfig, num_labels: int, num_words: int, num_conditions: int = 0) -> None:
        super().__init__()
        images, reports = config.image_discriminator, config.report_discriminator
        features = block_widths(images.channels, num_blocks(config.side_px))[-1]
        self.blocks = down_blocks(images.channels, config.side_px, config.channels, images.spectral_norm)
        self.reader = ReportReader(num_words, reports.word_embedding, reports.hidden)
        self.embed_report = spectrally_normalized(nn.Linear(reports.hidden, features))
        self.tied = nn.Sequential(
            spectrally_normalized(nn.Linear(features, features), images.spectral_norm), nn.LeakyReLU(_LEAK)
        )
        self.make_heads(features, num_labels, images.spectral_norm, num_conditions)

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return features_BF of images, after the tied layer. Summed over positions as in D_image."""
        features_BF: Tensor = self.tied(functional.relu(self.blocks(image_BCHW)).float().sum(dim=(2, 3)))
        return features_BF

    def report_features(self, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Return features_BF of reports, after the tied layer, for words embedded by `reader`."""
        features_BF: Tensor = self.tied(functional.relu(self.embed_report(self.reader(embedded_BSWE, valid_BSW))))
        return features_BF
