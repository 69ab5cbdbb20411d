"""Differentiable augmentation: every image that a critic reads, real or generated, is randomly changed first.

A critic that sees few real images memorizes them; changed anew each time, they are many. The change has the same
distribution for real and generated images and lets gradients through, so G learns images and not changed images.

Shapes: B images, C channels, H = W side [px], U uniform numbers an image.
Source: not in the paper; Zhao et al. 2020 (DiffAugment), Karras et al. 2020 (ADA: a probability that adapts).
Departures: docs/deviations.md#augmentation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from emixer.config.training import Augmentation
from emixer.models.noise import RowNoise

NUM_UNIFORMS = 6
"""Two per kind, whichever kinds are used: enabling one leaves the draws of the others unchanged."""

_BLACK, _GRAY = -1.0, 0.0
_LARGEST_SHIFT = 1 / 8
_CUTOUT = 1 / 2
"""Fractions of the side, as in DiffAugment."""


class Augmenter:
    """Images as critics see them: each augmented, or each with a probability that adapts to the critic (ADA).

    The probability is part of the training state: it is saved, and identical on every worker.
    """

    def __init__(self, kinds: Sequence[Augmentation], target: float | None = None, images: int = 1) -> None:
        """target, images: see `loss.augment_target` and `loss.augment_images`."""
        self.kinds, self.target, self._images = tuple(kinds), target, images
        self.probability = torch.tensor(1.0 if target is None else 0.0)

    @property
    def adapts(self) -> bool:
        """Whether the probability adapts to the critic."""
        return bool(self.kinds) and self.target is not None

    def __call__(self, image_BCHW: Tensor, noise: RowNoise, which: str) -> Tensor:
        """Augment images. which: name of a stream of `noise`; real and generated images of a step have one each."""
        if not self.kinds:
            return image_BCHW
        changed_BCHW = augmented(image_BCHW, noise.uniform(f"augment/{which}", NUM_UNIFORMS), self.kinds)
        if not self.adapts:
            return changed_BCHW
        self.probability = self.probability.to(image_BCHW.device)
        chosen_B = noise.uniform(f"augment/{which}/whether") < self.probability
        return torch.where(chosen_B[:, None, None, None], changed_BCHW, image_BCHW)

    def follow(self, real_sign: Tensor, num_images: int) -> None:
        """Update the probability after a critic step on `num_images` images whose real logits had that mean sign."""
        assert self.target is not None, "only an adaptive one follows"
        step = torch.sign(real_sign - self.target) * (num_images / self._images)
        self.probability = (self.probability.to(step.device) + step).clamp(0, 1)


def augmented(image_BCHW: Tensor, uniform_BU: Tensor, kinds: Sequence[Augmentation]) -> Tensor:
    """Augment images in about [-1, 1], each by its own numbers in [0, 1); 0.5 throughout changes no gray value or
    position.

    color: brightness by up to 0.5, contrast by a factor of 0.5 to 1.5. translation: by whole pixels, up to an eighth of
    the side, filled with black as outside the collimation. cutout: a gray square of half the side, anywhere.
    """
    for kind in kinds:
        match kind:
            case "color":
                image_BCHW = _recolored(image_BCHW, uniform_BU[:, 0], uniform_BU[:, 1])
            case "translation":
                image_BCHW = _translated(image_BCHW, uniform_BU[:, 2], uniform_BU[:, 3])
            case "cutout":
                image_BCHW = _cut_out(image_BCHW, uniform_BU[:, 4], uniform_BU[:, 5])
    return image_BCHW


def _recolored(image_BCHW: Tensor, brightness_B: Tensor, contrast_B: Tensor) -> Tensor:
    bright_BCHW = image_BCHW + (brightness_B - 0.5)[:, None, None, None]
    mean_B111 = bright_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    return mean_B111 + (bright_BCHW - mean_B111) * (contrast_B + 0.5)[:, None, None, None]


def _translated(image_BCHW: Tensor, down_B: Tensor, right_B: Tensor) -> Tensor:
    moved_BCHW = _shifted(image_BCHW, down_B, dim=2)
    return _shifted(moved_BCHW, right_B, dim=3)


def _shifted(image_BCHW: Tensor, uniform_B: Tensor, dim: int) -> Tensor:
    side = image_BCHW.shape[dim]
    largest = int(side * _LARGEST_SHIFT)
    shift_B = (uniform_B * (2 * largest + 1)).floor().long() - largest
    from_BH = torch.arange(side, device=image_BCHW.device) - shift_B[:, None]
    shape = [len(image_BCHW), 1, 1, 1]
    shape[dim] = side
    inside = ((from_BH >= 0) & (from_BH < side)).view(shape)
    index = from_BH.clamp(0, side - 1).view(shape).expand_as(image_BCHW)
    return image_BCHW.gather(dim, index).where(inside, _BLACK)


def _cut_out(image_BCHW: Tensor, down_B: Tensor, right_B: Tensor) -> Tensor:
    side = image_BCHW.shape[2]
    place_H = torch.arange(side, device=image_BCHW.device) + 0.5

    def covered(center_B: Tensor) -> Tensor:
        return (place_H - center_B[:, None] * side).abs() < side * _CUTOUT / 2

    square_BHW = covered(down_B)[:, :, None] & covered(right_B)[:, None, :]
    return image_BCHW.where(~square_BHW[:, None], _GRAY)
