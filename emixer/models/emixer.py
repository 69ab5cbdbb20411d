"""EMIXER: the five networks together.

Source: EMIXER §3.2, §6.2.
"""

from collections.abc import Sequence

from torch import nn

from emixer.config.model import EmixerModelConfig
from emixer.models.image_discriminator import ImageDiscriminator
from emixer.models.image_first import ImageFirstModel
from emixer.models.joint_discriminator import JointDiscriminator
from emixer.models.paired_model import ModelSpec
from emixer.models.report_discriminator import ReportDiscriminator


class Emixer(ImageFirstModel):
    """Image generator G, report decoder F, and the critics of images, of reports and of pairs."""

    def __init__(self, config: EmixerModelConfig, spec: ModelSpec, load_weights: bool = True) -> None:
        super().__init__(config, spec, load_weights)
        num_labels, num_words = len(spec.label_names), len(spec.tokens)
        side_px, channels = config.side_px, config.channels
        self.image_discriminator = ImageDiscriminator(
            config.image_discriminator, num_labels, side_px, channels, spec.num_conditions
        )
        self.report_discriminator = ReportDiscriminator(config.report_discriminator, num_words)
        self.joint_discriminator = JointDiscriminator(config.joint_discriminator, num_words, side_px, channels)

    def critics(self) -> Sequence[nn.Module]:
        """D_image, D_report, D_joint."""
        return self.image_discriminator, self.report_discriminator, self.joint_discriminator
