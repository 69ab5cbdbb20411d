"""R1 and R2: a critic that is steep at real or at generated images is penalised, which keeps the game from diverging.

Shapes: N images, real and generated ones, C channels, H = W side [px], Y labels.
Source: Mescheder et al. 2018 (R1, R2); Huang et al. 2024 (R3GAN). Departures: docs/deviations.md#value-function.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from emixer.models.full_precision import full_precision

if TYPE_CHECKING:
    from emixer.losses.image_game import ImageCritic


def gradient_penalty(critic: "ImageCritic", image_NCHW: Tensor, labels_NY: Tensor, labelled_N: Tensor) -> Tensor:
    """Return the sum over images of half the squared gradient of the critic's logit with respect to the image."""
    image_NCHW = image_NCHW.detach().requires_grad_()
    with full_precision(image_NCHW.device):
        logit_N = critic.real_logit(critic.features(image_NCHW), labels_NY, labelled_N)
        (gradient_NCHW,) = torch.autograd.grad(logit_N.sum(), image_NCHW, create_graph=True)
    return gradient_NCHW.square().sum() / 2
