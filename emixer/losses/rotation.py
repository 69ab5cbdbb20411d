"""Self-supervision by rotation: the critic predicts which way up an image is.

Shapes: B images of a micro-batch, R images of it that are rotated, C channels, H = W side [px].
Source: EMIXER §3.2.3, §6.3.2; Chen et al. 2019 (SSGAN). Departures: docs/deviations.md#rotation.
"""

import torch
from torch import Tensor
from torch.nn import functional

from emixer.models.image_discriminator import NUM_ROTATIONS
from emixer.models.paired_model import RowWeights


def in_all_rotations(image_RCHW: Tensor) -> Tensor:
    """Return (4R, C, H, W): all images turned by 0, then all by 90, 180 and 270 degrees."""
    turned = [image_RCHW.rot90(quarter_turns, dims=(2, 3)) for quarter_turns in range(NUM_ROTATIONS)]
    return torch.cat(turned)


def rotation_cross_entropy(rotation_logits: Tensor) -> Tensor:
    """Sum, over images, the mean over rotations of -log Q(R = r | image turned by r), for `in_all_rotations`.

    rotation_logits: (4R, 4).
    """
    num_images = len(rotation_logits) // NUM_ROTATIONS
    target = torch.arange(NUM_ROTATIONS, device=rotation_logits.device).repeat_interleave(num_images)
    return functional.cross_entropy(rotation_logits, target, reduction="sum") / NUM_ROTATIONS


def rotation_term(rotation_logits: Tensor, share: float, weights: RowWeights) -> Tensor:
    """Return the mean over the rotated rows of the global batch, of which `share` are rotated."""
    return rotation_cross_entropy(rotation_logits) * weights.row / share
