"""CoGAN's game: an image critic against the image generator, a report critic against the report generator, coupled only
through shared layers.

Generated reports count where their row has a real one: else rows that lack both labels and report would tell the report
critic that whatever it judges without labels is generated.

Shapes: B rows, Y labels, S sentences, W words of a sentence, E embedding.
Source: Liu & Tuzel 2016, §3; EMIXER §4.3. Departures: docs/deviations.md#baselines.
"""

from dataclasses import replace

import torch
from torch import Tensor

from emixer.config.model import GumbelConfig
from emixer.config.training import LossConfig
from emixer.losses.image_game import ImageGame
from emixer.losses.terms import (
    Terms,
    padded_like,
    require_a_term,
    teacher_forcing_terms,
    weighted_total,
    with_channels,
)
from emixer.models.cogan import Cogan
from emixer.models.conditioning import known_to_both
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch, Objective, PairedModel, RowWeights
from emixer.models.report_writer import WriterInput, written_for


class CoganObjective(Objective):
    """Terms "image", "rotation" and "report" of both players, and teacher forcing of reports from labels."""

    def __init__(self, loss: LossConfig, gumbel: GumbelConfig) -> None:
        require_a_term(loss, ("image", "report", "beta"), ("image", "report", "alpha", "teacher_forcing"))
        self.loss = loss
        self.gumbel = gumbel
        self.images = ImageGame(loss)
        self.adaptive = self.augment = self.images.augment
        self.adversarial = self.images.adversarial

    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, gradient_penalty, rotation, report."""
        assert isinstance(model, Cogan)
        real = with_channels(real, model.channels)
        with torch.no_grad():
            tied = model.tied(fake_labels_BY, noise)
            fake_BCHW = self.augment(model.images(tied), noise, "fake")
        real = replace(real, image_BCHW=self.augment(real.image_BCHW, noise, "real"))
        terms = self.images.critic_terms(
            model.critics, real, fake_BCHW, fake_labels_BY, noise, weights, model.spec.condition_sizes
        )
        if self.loss.report > 0:
            with torch.no_grad():
                fake_BSWE, valid_BSW = self._written(model, model.report_generator.read(tied.features_BFHW), noise)
            terms["report"] = self._report_term(model, real, fake_BSWE, valid_BSW, fake_labels_BY, weights)
        return weighted_total(terms, self.loss, rotation=self.loss.beta)

    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, rotation, report, words, stops."""
        assert isinstance(model, Cogan)
        terms: Terms = {}
        if self.images.generator_learns or self.loss.report > 0:
            tied = model.tied(fake_labels_BY, noise)
            if self.images.generator_learns:
                fake_BCHW = self.augment(model.images(tied), noise, "fake")
                shown = with_channels(real, model.channels)
                terms |= self.images.generator_terms(
                    model.critics, shown, fake_BCHW, fake_labels_BY, noise, weights, model.spec.condition_sizes
                )
            if self.loss.report > 0:
                terms["report"] = self._fooling_reports(model, tied.features_BFHW, real, fake_labels_BY, noise, weights)
        if self.loss.teacher_forcing > 0:
            generator = model.report_generator
            # A row without labels adds no loss but enters the batch norms, so it gets labels that images do have
            labels_BY = torch.where(real.labelled_B[:, None], real.labels_BY, fake_labels_BY)
            condition = generator.read(model.tied(labels_BY, noise.named("taught")).features_BFHW)
            terms |= teacher_forcing_terms(
                generator.writer, condition, real.with_labelled_reports(), weights.of_labelled(), self.loss, noise
            )
        return weighted_total(terms, self.loss, rotation=self.loss.alpha)

    def _written(self, model: Cogan, condition: WriterInput, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Return generated words as the critic reads them (B, S, W, E), and where they are valid."""
        report = written_for(model.report_generator.writer, condition, noise, self.gumbel, [model.critics.reader])
        return report.embedded_BSWE[0], report.valid

    def _report_term(
        self, model: Cogan, real: Batch, fake_BSWE: Tensor, valid_BSW: Tensor, fake_labels_BY: Tensor,
        weights: RowWeights,
    ) -> Tensor:  # fmt: skip
        critic = model.critics
        words_BSW = padded_like(real.words_BSW, valid_BSW)
        features = critic.report_features(
            torch.cat([critic.reader.embed(words_BSW), fake_BSWE]), torch.cat([words_BSW != PAD, valid_BSW])
        )
        logit_real_B, logit_fake_B = critic.real_logit(
            features,
            torch.cat(known_to_both(real.labels_BY, fake_labels_BY, model.spec.condition_sizes)),
            real.labelled_B.repeat(2),
        ).chunk(2)
        per_row_B = self.adversarial.real(logit_real_B) + self.adversarial.fake(logit_fake_B)
        return per_row_B.where(real.has_report_B, 0.0).sum() * weights.report

    def _fooling_reports(
        self, model: Cogan, features_BFHW: Tensor, real: Batch, fake_labels_BY: Tensor, noise: RowNoise,
        weights: RowWeights,
    ) -> Tensor:  # fmt: skip
        critic = model.critics
        if not self.loss.report_gradient_to_image:
            features_BFHW = features_BFHW.detach()
        fake_BSWE, valid_BSW = self._written(model, model.report_generator.read(features_BFHW), noise)
        _, fake_BY = known_to_both(real.labels_BY, fake_labels_BY, model.spec.condition_sizes)
        logit_B = critic.real_logit(critic.report_features(fake_BSWE, valid_BSW), fake_BY, real.labelled_B)
        return self.adversarial.generator(logit_B).where(real.has_report_B, 0.0).sum() * weights.report
