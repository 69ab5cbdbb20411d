"""SM-GAN, a baseline: a conditional image GAN and a report decoder, trained separately.

Original: images from a GAN, "passed to a text decoder which produces text reports" (EMIXER §4.3). Here: G, D_image and
F are EMIXER's own networks, so that the comparison shows the effect of the game and not of network sizes.
Source: EMIXER §4.3, "Single Modal Image GAN with text decoder". Departures: docs/deviations.md#baselines.
"""

from collections.abc import Sequence

from torch import nn

from emixer.config.model import SmganModelConfig
from emixer.models.image_discriminator import ImageDiscriminator
from emixer.models.image_first import ImageFirstModel
from emixer.models.paired_model import ModelSpec


class Smgan(ImageFirstModel):
    """Image generator G, its critic D_image, and a report decoder F."""

    def __init__(self, config: SmganModelConfig, spec: ModelSpec, load_weights: bool = True) -> None:
        super().__init__(config, spec, load_weights)
        self.image_discriminator = ImageDiscriminator(
            config.image_discriminator, spec.num_labels, config.side_px, config.channels, spec.num_conditions
        )

    def critics(self) -> Sequence[nn.Module]:
        """D_image."""
        return (self.image_discriminator,)
