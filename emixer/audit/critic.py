"""Scores of real images by the image discriminator of a run.

Shapes: N images, B of a batch, C channels, H, W sides [px].
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from emixer.checkpoint import NETWORKS, read_checkpoint
from emixer.config.model import ModelConfig
from emixer.errors import CheckpointError
from emixer.generation.published_model import is_published_model
from emixer.losses.image_game import ImageCritic
from emixer.model_kinds import build_model
from emixer.models.cogan import Cogan
from emixer.models.emixer import Emixer
from emixer.models.paired_model import ModelSpec
from emixer.models.smgan import Smgan


def image_critic(checkpoint: Path, config: ModelConfig, spec: ModelSpec) -> ImageCritic | None:
    """Trained image critic; None for a model or checkpoint without one, and for a published model.

    Raises CheckpointError when its weights are damaged or belong to another model.
    """
    if is_published_model(checkpoint):
        return None
    found = read_checkpoint(checkpoint)
    if NETWORKS not in found.state.get("bytes", {}):
        return None
    model = build_model(config, spec, load_weights=False)
    try:
        model.load_state_dict(found.tensors(NETWORKS))
    except RuntimeError as error:
        raise CheckpointError(
            f"{checkpoint} does not fit the model it names ({str(error).splitlines()[0]}). Use another checkpoint."
        ) from error
    model.eval().requires_grad_(False)
    match model:
        case Emixer() | Smgan():
            return model.image_discriminator
        case Cogan():
            return model.critics
    return None


@torch.no_grad()
def real_logits(
    critic: ImageCritic, images: Iterable[NDArray[np.uint8]], channels: int, num_columns: int
) -> NDArray[np.float64]:
    """Logits (N,) for being real of batches of gray values (B, H, W), with labels and conditions unknown.

    num_columns: length of a vector of labels and conditions.
    """
    found = []
    for image_BHW in images:
        image_BCHW = torch.from_numpy(image_BHW)[:, None].float().div(127.5).sub(1).expand(-1, channels, -1, -1)
        num = len(image_BCHW)
        logit_B = critic.real_logit(
            critic.features(image_BCHW), torch.zeros(num, num_columns), torch.zeros(num, dtype=torch.bool)
        )
        found.append(logit_B.double().numpy())
    return np.concatenate(found)
