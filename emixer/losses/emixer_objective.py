"""EMIXER's game: three critics against G and F, rotation loss for both sides, teacher forcing for F.

The critics minimise
    image  [l(D_image(I)) + l'(D_image(G(z)))]  + report [l(D_report(S)) + l'(D_report(F(G(z))))]
  + joint  [l(D_joint(I, S)) + l'(D_joint(G(z), F(G(z))))]  - beta log Q(R = r | real image turned by r),
G and F minimise
    image g(D_image(G(z))) + report g(D_report(F(G(z)))) + joint g(D_joint(G(z), F(G(z))))
  - alpha log Q(R = r | G(z) turned by r)  + teacher_forcing [-log p(words) - log p(stops)].
A weight of 0 skips its term and its computation.

Shapes: B rows, C channels, H = W side [px], L labels, Y labels and columns of conditions, S sentences, W words of a
sentence, E embedding.
Source: EMIXER §3.2.3. Departures: docs/deviations.md#value-function, which corrects its signs.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emixer.config.model import GumbelConfig
from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.losses.augmentation import Augmenter
from emixer.losses.image_game import ImageGame
from emixer.losses.terms import (
    Terms,
    conditions_term,
    image_labels_term,
    padded_like,
    require_a_term,
    teacher_forcing,
    weighted_total,
    with_channels,
)
from emixer.models.emixer import Emixer
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch, Objective, PairedModel, RowWeights
from emixer.models.report_writer import RelaxedReport, written_for


@dataclass(frozen=True)
class _FakePairs:
    """Generated rows as the critics read them. Reports are embedded in the tables of the two text critics."""

    image_BCHW: Tensor
    labels_BY: Tensor
    valid_BSW: Tensor
    report_BSWE: Tensor
    joint_BSWE: Tensor


class EmixerObjective(Objective):
    """The value function of EMIXER §3.2.3 with its signs corrected."""

    def __init__(self, loss: LossConfig, gumbel: GumbelConfig, augment: Augmenter | None = None) -> None:
        """augment: see `ImageGame`."""
        require_a_term(
            loss,
            ("image", "report", "joint", "beta"),
            ("image", "report", "joint", "alpha", "image_labels", "teacher_forcing"),
        )
        if loss.image_labels > 0 and loss.labels == 0:
            raise ConfigError(
                "loss.image_labels needs the label outputs of F's encoder, but loss.labels=0 leaves them untrained. "
                "Set loss.labels above 0, or loss.image_labels=0."
            )
        if loss.mismatched > 0 and loss.joint == 0:
            raise ConfigError(
                "loss.mismatched gives D_joint extra fakes, but with loss.joint=0 there is no D_joint. Set loss.joint "
                "above 0, or loss.mismatched=0."
            )
        self.loss = loss
        self.gumbel = gumbel
        self.images = ImageGame(loss, augment)
        self.adaptive = self.augment = self.images.augment
        self.adversarial = self.images.adversarial

    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, gradient_penalty, report, joint, rotation, each before its weight in the config."""
        assert isinstance(model, Emixer)
        real = with_channels(real, model.channels)
        with torch.no_grad():
            fake = self._sampled_fakes(model, fake_labels_BY, noise)
        real = replace(real, image_BCHW=self.augment(real.image_BCHW, noise, "real"))
        fake = replace(fake, image_BCHW=self.augment(fake.image_BCHW, noise, "fake"))
        critic = model.image_discriminator
        terms = self.images.critic_terms(
            critic, real, fake.image_BCHW, fake.labels_BY, noise, weights, model.spec.condition_sizes
        )
        if self.loss.report > 0:
            terms["report"] = self._report_term(model, real, fake, weights)
        if self.loss.joint > 0:
            terms["joint"] = self._joint_term(model, real, fake, weights)
        return weighted_total(terms, self.loss, rotation=self.loss.beta)

    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, report, joint, rotation, image_labels, words, stops, labels, each before its weight; conditions
        beside labels if there are any."""
        assert isinstance(model, Emixer)
        real = with_channels(real, model.channels)
        terms: Terms = {}
        if self.images.generator_learns or self._uses_reports or self.loss.image_labels > 0:
            image_BCHW = model.generate_images(fake_labels_BY, noise)
            seen_BCHW = self.augment(image_BCHW, noise, "fake")
            critic = model.image_discriminator
            terms |= self.images.generator_terms(
                critic, real, seen_BCHW, fake_labels_BY, noise, weights, model.spec.condition_sizes
            )
            if self._uses_reports or self.loss.image_labels > 0:
                terms |= self._through_decoder(model, image_BCHW, seen_BCHW, fake_labels_BY, noise, weights)
        terms |= teacher_forcing(model.report_decoder, real, weights, self.loss, noise)
        return weighted_total(terms, self.loss, rotation=self.loss.alpha)

    @property
    def _uses_reports(self) -> bool:
        return self.loss.report > 0 or self.loss.joint > 0

    # The critics' side

    def _sampled_fakes(self, model: Emixer, labels_BY: Tensor, noise: RowNoise) -> _FakePairs:
        image_BCHW = model.generate_images(labels_BY, noise)
        if not self._uses_reports:
            nothing = labels_BY.new_empty(0)
            return _FakePairs(image_BCHW, labels_BY, nothing, nothing, nothing)
        report = self._report(model, model.report_decoder.read(image_BCHW), labels_BY, noise)
        return _FakePairs(image_BCHW, labels_BY, report.valid, *report.embedded_BSWE)

    def _report_term(self, model: Emixer, real: Batch, fake: _FakePairs, weights: RowWeights) -> Tensor:
        critic = model.report_discriminator
        words_BSW = padded_like(real.words_BSW, fake.valid_BSW)
        logit_real_B, logit_fake_B = critic(
            torch.cat([critic.reader.embed(words_BSW), fake.report_BSWE]),
            torch.cat([words_BSW != PAD, fake.valid_BSW]),
        ).chunk(2)
        return self._text_loss(logit_real_B, logit_fake_B, real, weights)

    def _joint_term(self, model: Emixer, real: Batch, fake: _FakePairs, weights: RowWeights) -> Tensor:
        critic = model.joint_discriminator
        words_BSW = padded_like(real.words_BSW, fake.valid_BSW)
        image_NFHW = critic.image_map(torch.cat([real.image_BCHW, fake.image_BCHW]))
        report_NH = critic.report_state(
            torch.cat([critic.reader.embed(words_BSW), fake.joint_BSWE]),
            torch.cat([words_BSW != PAD, fake.valid_BSW]),
        )
        logit_real_B, logit_fake_B = critic.logit(image_NFHW, report_NH).chunk(2)
        loss = self._text_loss(logit_real_B, logit_fake_B, real, weights)
        if self.loss.mismatched > 0:
            num = len(real)
            of_another_BH = report_NH[:num].roll(1, dims=0)
            labels_BL = real.labels_BY[:, : model.spec.num_labels]  # other labels, whoever the patients are
            differs_B = (labels_BL != labels_BL.roll(1, dims=0)).any(dim=1)
            counts_B = real.has_report_B.roll(1, dims=0) & differs_B & real.labelled_B & real.labelled_B.roll(1, dims=0)
            fake_B = self.adversarial.fake(critic.logit(image_NFHW[:num], of_another_BH))
            loss = loss + self.loss.mismatched * fake_B.where(counts_B, 0.0).sum() * weights.row
        return loss

    def _text_loss(self, logit_real_B: Tensor, logit_fake_B: Tensor, real: Batch, weights: RowWeights) -> Tensor:
        real_B = self.adversarial.real(logit_real_B).where(real.has_report_B, 0.0)
        return real_B.sum() * weights.report + self.adversarial.fake(logit_fake_B).sum() * weights.row

    # The generators' side

    def _through_decoder(
        self, model: Emixer, image_BCHW: Tensor, seen_BCHW: Tensor, labels_BY: Tensor, noise: RowNoise,
        weights: RowWeights,
    ) -> Terms:  # fmt: skip
        """Return F's terms on generated images, image_BCHW; D_joint sees them as seen_BCHW."""
        image_BPV = model.report_decoder.read(image_BCHW)
        terms: Terms = {}
        if self.loss.image_labels > 0:
            terms["image_labels"] = image_labels_term(model.report_decoder.labels_seen(image_BPV), labels_BY, weights)
            seen = model.report_decoder.conditions_seen(image_BPV)
            terms |= conditions_term("image_conditions", seen, labels_BY, weights)
        if not self._uses_reports:
            return terms
        if not self.loss.report_gradient_to_image:
            image_BPV, seen_BCHW = image_BPV.detach(), seen_BCHW.detach()
        report = self._report(model, image_BPV, labels_BY, noise)
        report_BSWE, joint_BSWE = report.embedded_BSWE
        if self.loss.report > 0:
            logit_B = model.report_discriminator(report_BSWE, report.valid)
            terms["report"] = self.adversarial.generator(logit_B).sum() * weights.row
        if self.loss.joint > 0:
            logit_B = model.joint_discriminator(seen_BCHW, joint_BSWE, report.valid)
            terms["joint"] = self.adversarial.generator(logit_B).sum() * weights.row
        return terms

    # Both sides

    def _report(self, model: Emixer, image_BPV: Tensor, labels_BY: Tensor, noise: RowNoise) -> RelaxedReport:
        """Return F's report of images as D_report and D_joint read it."""
        decoder, readers = model.report_decoder, (model.report_discriminator.reader, model.joint_discriminator.reader)
        return written_for(decoder.writer, decoder.condition(image_BPV, labels_BY), noise, self.gumbel, readers)
