"""Image discriminator: image and labels -> real or fake, and which way up it is.

Shapes: B images, C channels, H = W side [px], F features, Y labels and columns of conditions.
Source: EMIXER §3.2.3, §6.2.2, table 8; Miyato & Koyama 2018 (projection); Chen et al. 2019 (SSGAN, rotation head).
Departures: docs/deviations.md#image-discriminator.
"""

from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import ImageDiscriminatorConfig
from emixer.models.conditioning import known_columns
from emixer.models.image_generator import block_widths, num_blocks
from emixer.models.layers import DownBlock
from emixer.models.spectral_norm import spectrally_normalized

NUM_ROTATIONS = 4


class LabelledHeads(nn.Module):
    """Real or fake given labels, and which way up, from features: the heads of a critic."""

    def make_heads(self, features: int, num_labels: int, spectral_norm: bool, num_conditions: int = 0) -> None:
        """Add the heads, after any other layers."""
        self.num_labels = num_labels
        self.real_head = spectrally_normalized(nn.Linear(features, 1), spectral_norm)
        projection = nn.Linear(num_labels + num_conditions, features, bias=False)
        self.projection = spectrally_normalized(projection, spectral_norm)
        self.rotation_head = spectrally_normalized(nn.Linear(features, NUM_ROTATIONS), spectral_norm)

    def real_logit(self, features_BF: Tensor, labels_BY: Tensor, labelled_B: Tensor) -> Tensor:
        """Return the logit (B,) of being real. Unlabelled rows omit the projection of labels."""
        known_BY = known_columns(labels_BY, labelled_B, self.num_labels)
        projected_B: Tensor = (self.projection(known_BY) * features_BF).sum(dim=1)
        real_B: Tensor = self.real_head(features_BF).squeeze(1)
        return (real_B + projected_B).float()

    def rotation_logits(self, features_BF: Tensor) -> Tensor:
        """Return logits (B, 4) of a rotation of the image by 0, 90, 180 or 270 degrees."""
        logits_B4: Tensor = self.rotation_head(features_BF)
        return logits_B4.float()


class ImageDiscriminator(LabelledHeads):
    """D_image(I, y). Features are computed once, heads as often as needed."""

    def __init__(
        self, config: ImageDiscriminatorConfig, num_labels: int, side_px: int, image_channels: int,
        num_conditions: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.blocks = down_blocks(config.channels, side_px, image_channels, config.spectral_norm)
        features = block_widths(config.channels, num_blocks(side_px))[-1]
        self.make_heads(features, num_labels, config.spectral_norm, num_conditions)

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return pooled features_BF.

        Summed over positions, not averaged, as in SNGAN and BigGAN: with spectrally normalized heads, a mean would keep
        the logits so close to 0 that the losses give no useful gradient.
        """
        features_BF: Tensor = functional.relu(self.blocks(image_BCHW)).float().sum(dim=(2, 3))
        return features_BF


def down_blocks(channels: int, side_px: int, image_channels: int, spectral_norm: bool) -> nn.Sequential:
    """Build blocks from an image down to 4 x 4, doubling the width: (B, image_channels, H, W) -> (B, F, 4, 4)."""
    widths = [image_channels, *block_widths(channels, num_blocks(side_px))]
    return nn.Sequential(
        *(DownBlock(widths[i], widths[i + 1], spectral_norm, reads_pixels=i == 0) for i in range(len(widths) - 1))
    )
