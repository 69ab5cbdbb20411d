"""SM-GAN's two phases: first images against D_image, then the report decoder on real pairs.

Shapes: B rows, Y labels.
Source: EMIXER §4.3. Departures: docs/deviations.md#baselines.
"""

from dataclasses import replace

import torch
from torch import Tensor

from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.losses.image_game import ImageGame
from emixer.losses.terms import Terms, require_a_term, teacher_forcing, weighted_total, with_channels
from emixer.models.image_first import ImageFirstModel
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, Objective, PairedModel, RowWeights
from emixer.models.smgan import Smgan


class ImageObjective(Objective):
    """The first phase: a conditional image GAN with rotation, as in EMIXER, and nothing else."""

    resting = ("report_decoder",)

    def __init__(self, loss: LossConfig) -> None:
        require_a_term(loss, ("image", "beta"), ("image", "alpha"))
        self.loss = loss
        self.images = ImageGame(loss)
        self.adaptive = self.augment = self.images.augment

    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, gradient_penalty, rotation."""
        assert isinstance(model, Smgan)
        real = with_channels(real, model.channels)
        with torch.no_grad():
            fake_BCHW = self.augment(model.generate_images(fake_labels_BY, noise), noise, "fake")
        real = replace(real, image_BCHW=self.augment(real.image_BCHW, noise, "real"))
        terms = self.images.critic_terms(
            model.image_discriminator, real, fake_BCHW, fake_labels_BY, noise, weights, model.spec.condition_sizes
        )
        return weighted_total(terms, self.loss, rotation=self.loss.beta)

    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, rotation."""
        assert isinstance(model, Smgan)
        fake_BCHW = self.augment(model.generate_images(fake_labels_BY, noise), noise, "fake")
        real = with_channels(real, model.channels)
        terms = self.images.generator_terms(
            model.image_discriminator, real, fake_BCHW, fake_labels_BY, noise, weights, model.spec.condition_sizes
        )
        return weighted_total(terms, self.loss, rotation=self.loss.alpha)


class DecoderObjective(Objective):
    """The report decoder alone: words and stops of real reports given their images, and labels. G is not trained.
    SM-GAN's second phase; EMIXER's first if `model.words_share` is above 0."""

    has_critics = False
    resting = ("image_generator",)

    def __init__(self, loss: LossConfig) -> None:
        if loss.teacher_forcing == 0:
            raise ConfigError(
                "loss.teacher_forcing is 0, but a report decoder that is trained alone (SM-GAN; EMIXER with "
                "model.words_share) has no other loss. Set it above 0."
            )
        self.loss = loss

    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """This phase has no critic."""
        raise NotImplementedError("has_critics is False: nobody may ask")

    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: words, stops, labels."""
        assert isinstance(model, ImageFirstModel)
        real = with_channels(real, model.channels)
        terms = teacher_forcing(model.report_decoder, real, weights, self.loss, noise)
        return weighted_total(terms, self.loss, rotation=self.loss.alpha)
