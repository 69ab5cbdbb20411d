"""JointGAN's single critic: an image and a report -> the kind of pair.

Shapes: B pairs, K kinds, C channels, H = W side [px], F features, Y labels and columns of conditions, S
sentences, W words, E embedding.
Source: Pu et al. 2018, §3.2 (softmax critic over the kinds of pairs); Miyato & Koyama 2018 (projection).
Departures: docs/deviations.md#baselines.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import JointDiscriminatorConfig
from emixer.models.conditioning import known_columns
from emixer.models.image_discriminator import NUM_ROTATIONS
from emixer.models.joint_discriminator import PairFeatures
from emixer.models.spectral_norm import spectrally_normalized

NUM_PAIR_TYPES = 5
"""A real pair; a real image with a generated report; a real report with a generated image; a generated pair in either
order."""
REAL_PAIR = 0
_LEAK = 0.2


class PairTypeCritic(PairFeatures):
    """Softmax critic over five kinds of pairs, with a projection of the labels for each kind."""

    def __init__(
        self, config: JointDiscriminatorConfig, num_labels: int, num_words: int, side_px: int, image_channels: int,
        num_conditions: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(config, num_words, side_px, image_channels)
        # There is no separate image critic, so this one also gets what D_image reads: features summed over positions
        self.hidden = spectrally_normalized(nn.Linear(self.pair_size + self.image_size, config.hidden))
        self.type_head = spectrally_normalized(nn.Linear(config.hidden, NUM_PAIR_TYPES))
        self.num_labels = num_labels
        projection = nn.Linear(num_labels + num_conditions, NUM_PAIR_TYPES * config.hidden, bias=False)
        self.projection = spectrally_normalized(projection)
        self.rotation_head = spectrally_normalized(nn.Linear(self.image_size, NUM_ROTATIONS))

    def forward(
        self, image_BCHW: Tensor, embedded_BSWE: Tensor, valid_BSW: Tensor, labels_BY: Tensor, labelled_B: Tensor
    ) -> Tensor:
        """Return logits_BK of the kinds, float32, for words embedded by `reader`. Unknown labels are not projected."""
        image_map_BFHW = self.image_map(image_BCHW)
        pair_BF = self.pair_features(image_map_BFHW, embedded_BSWE, valid_BSW)
        read_BF = torch.cat([pair_BF, image_map_BFHW.sum(dim=(2, 3))], dim=1)
        hidden_BH = functional.leaky_relu(self.hidden(read_BF), _LEAK)
        known_BY = known_columns(labels_BY, labelled_B, self.num_labels)
        projected_BKH = self.projection(known_BY).unflatten(1, (NUM_PAIR_TYPES, -1))
        projected_BK = (projected_BKH * hidden_BH[:, None]).sum(dim=2)
        logits_BK: Tensor = self.type_head(hidden_BH) + projected_BK
        return logits_BK.float()

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return features_BF of images alone, for `rotation_logits`."""
        return self.image_map(image_BCHW).sum(dim=(2, 3))

    def rotation_logits(self, features_BF: Tensor) -> Tensor:
        """Return logits (B, 4) of a rotation of the image by 0, 90, 180 or 270 degrees."""
        logits_B4: Tensor = self.rotation_head(features_BF)
        return logits_B4.float()
