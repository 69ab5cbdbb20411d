"""The part of a game that involves images alone: real or fake, and which way up.

    critic     image [l(D_image(I)) + l'(D_image(fake))]  - beta log Q(R = r | real image turned by r)
    generator  image g(D_image(fake))                     - alpha log Q(R = r | fake turned by r)

With loss.relativistic, image l(D_image(I) - D_image(fake)) and image g(D_image(fake) - D_image(I)), row by row; with
loss.gradient_penalty, the critic also minimises half its squared gradient at real and at fake images.

Where an image has no labels, the fake of its row is judged without its own: else whether there are any would tell the
critic what is real. Where either lacks a condition, both are judged without it.

Shapes: B rows, R of them that are rotated, N images of any kind, C channels, H = W side [px], Y labels, F features.
Source: EMIXER §3.2.3; Chen et al. 2019 (SSGAN); Huang et al. 2024 (R3GAN: relativistic, R1 and R2).
Departures: docs/deviations.md#value-function.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from emixer.config.training import LossConfig
from emixer.losses.adversarial import adversarial_loss
from emixer.losses.augmentation import Augmenter
from emixer.losses.gradient_penalty import gradient_penalty
from emixer.losses.rotation import in_all_rotations, rotation_term
from emixer.losses.row_share import rows_of_share
from emixer.losses.terms import Terms
from emixer.models.conditioning import known_to_both
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, RowWeights


class ImageCritic(Protocol):
    """What the game needs of an image critic."""

    def features(self, image_BCHW: Tensor) -> Tensor:
        """Return features_BF."""
        ...

    def real_logit(self, features_BF: Tensor, labels_BY: Tensor, labelled_B: Tensor) -> Tensor:
        """Return the logit (B,) of being real."""
        ...

    def rotation_logits(self, features_BF: Tensor) -> Tensor:
        """Return logits (B, 4) of a rotation by 0, 90, 180 or 270 degrees."""
        ...


class ImageGame:
    """The terms "image" and "rotation" of both players. A weight of 0 skips a term and its computation.

    With adaptive augmentation, "real_sign" is the mean sign of the logits of real images, which enters no loss; of a
    relativistic critic, whose logits have no zero of their own, that of the difference from their row's fake.
    """

    def __init__(self, loss: LossConfig, augment: Augmenter | None = None) -> None:
        """augment: of an earlier game of the same critic, whose adaptive probability goes on; None: a new one."""
        self.loss = loss
        self.adversarial = adversarial_loss(loss.adversarial)
        self.augment = augment or Augmenter(loss.augment, loss.augment_target, loss.augment_images)

    @property
    def critic_learns(self) -> bool:
        """Whether the critic has a term."""
        return self.loss.image > 0 or self.loss.beta > 0

    @property
    def generator_learns(self) -> bool:
        """Whether the generator has a term."""
        return self.loss.image > 0 or self.loss.alpha > 0

    def critic_terms(
        self, critic: ImageCritic, real: Batch, fake_BCHW: Tensor, fake_labels_BY: Tensor, noise: RowNoise,
        weights: RowWeights, condition_sizes: Sequence[int] = (),
    ) -> Terms:  # fmt: skip
        """Return the critic's terms on images as it sees them, after `augment`."""
        if not self.critic_learns:
            return {}
        images: list[Tensor] = [real.image_BCHW, fake_BCHW] if self.loss.image > 0 else []
        features, of_turned = self._features(critic, images, real.image_BCHW, noise, turned=self.loss.beta > 0)
        terms: Terms = {}
        if self.loss.image > 0:
            labels_NY = torch.cat(known_to_both(real.labels_BY, fake_labels_BY, condition_sizes))
            labelled_N = real.labelled_B.repeat(2)
            logit_real_B, logit_fake_B = critic.real_logit(features, labels_NY, labelled_N).chunk(2)
            followed_B = logit_real_B - logit_fake_B if self.loss.relativistic else logit_real_B
            if self.loss.augment_target is not None:
                terms["real_sign"] = followed_B.detach().sign().sum() * weights.row
            if self.loss.relativistic:
                per_row_B = self.adversarial.real(followed_B)
            else:
                per_row_B = self.adversarial.real(logit_real_B) + self.adversarial.fake(logit_fake_B)
            terms["image"] = per_row_B.sum() * weights.row
            if self.loss.gradient_penalty > 0:
                rows_R = rows_of_share(noise.first_row, len(fake_BCHW), self.loss.penalty_share, fake_BCHW.device)
                rows_N = torch.cat([rows_R, rows_R + len(fake_BCHW)])
                image_NCHW = torch.cat([real.image_BCHW[rows_R], fake_BCHW[rows_R]])
                penalty = gradient_penalty(critic, image_NCHW, labels_NY[rows_N], labelled_N[rows_N])
                terms["gradient_penalty"] = penalty * weights.row / self.loss.penalty_share
        if self.loss.beta > 0:
            terms["rotation"] = rotation_term(critic.rotation_logits(of_turned), self.loss.rotation_share, weights)
        return terms

    def generator_terms(
        self, critic: ImageCritic, real: Batch, fake_BCHW: Tensor, fake_labels_BY: Tensor, noise: RowNoise,
        weights: RowWeights, condition_sizes: Sequence[int] = (),
    ) -> Terms:  # fmt: skip
        """Return the generator's terms on images as the critic sees them, after `augment`. real: before it."""
        if not self.generator_learns:
            return {}
        images: list[Tensor] = [fake_BCHW] if self.loss.image > 0 else []
        features, of_turned = self._features(critic, images, fake_BCHW, noise, turned=self.loss.alpha > 0)
        terms: Terms = {}
        if self.loss.image > 0:
            real_BY, fake_BY = known_to_both(real.labels_BY, fake_labels_BY, condition_sizes)
            logit_B = critic.real_logit(features, fake_BY, real.labelled_B)
            if self.loss.relativistic:
                with torch.no_grad():
                    seen_BCHW = self.augment(real.image_BCHW, noise, "real")
                    logit_real_B = critic.real_logit(critic.features(seen_BCHW), real_BY, real.labelled_B)
                logit_B = logit_B - logit_real_B
            terms["image"] = self.adversarial.generator(logit_B).sum() * weights.row
        if self.loss.alpha > 0:
            terms["rotation"] = rotation_term(critic.rotation_logits(of_turned), self.loss.rotation_share, weights)
        return terms

    def _features(
        self, critic: ImageCritic, images: list[Tensor], upright_BCHW: Tensor, noise: RowNoise, turned: bool
    ) -> tuple[Tensor, Tensor]:
        """Return features of `images`, and of the rotated upright_BCHW in the order of `in_all_rotations`; one pass.

        upright_BCHW is the first of `images`, if there are any: its rotated rows are not read again at 0 degrees.
        """
        if not turned:
            features_NF = critic.features(torch.cat(images))
            return features_NF, features_NF[:0]
        rows_R = rows_of_share(noise.first_row, len(upright_BCHW), self.loss.rotation_share, upright_BCHW.device)
        turned_NCHW = in_all_rotations(upright_BCHW[rows_R])
        if not images:
            features_NF = critic.features(turned_NCHW)
            return features_NF[:0], features_NF
        num_images = sum(map(len, images))
        features_NF = critic.features(torch.cat([*images, turned_NCHW[len(rows_R) :]]))
        return features_NF[:num_images], torch.cat([features_NF[rows_R], features_NF[num_images:]])
