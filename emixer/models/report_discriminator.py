"""Report discriminator: the words of a report -> real or fake.

Shapes: B images, S sentences, W words of a sentence, E embedding, H state.
Source: EMIXER §3.2.3, §6.2.2. Departures: docs/deviations.md#report-discriminator.
"""

from torch import Tensor, nn

from emixer.config.model import ReportDiscriminatorConfig
from emixer.models.spectral_norm import spectrally_normalized
from emixer.models.words import ReportReader

_LEAK = 0.2


class ReportDiscriminator(nn.Module):
    """D_report(S): LSTM, then linear layers."""

    def __init__(self, config: ReportDiscriminatorConfig, num_words: int) -> None:
        super().__init__()
        self.reader = ReportReader(num_words, config.word_embedding, config.hidden)
        self.head = linear_layers(config.hidden, config.hidden)

    def forward(self, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Return the logit (B,) of being real, float32, for words embedded by `reader`."""
        logit_B1: Tensor = self.head(self.reader(embedded_BSWE, valid_BSW))
        return logit_B1.squeeze(1).float()


def linear_layers(size_in: int, hidden: int) -> nn.Sequential:
    """Build two spectrally normalized linear layers that end in one logit."""
    return nn.Sequential(
        spectrally_normalized(nn.Linear(size_in, hidden)),
        nn.LeakyReLU(_LEAK),
        spectrally_normalized(nn.Linear(hidden, 1)),
    )
