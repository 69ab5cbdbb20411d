"""EMIXER's game: three critics against G and F, rotation for both sides, teacher forcing for F.

The critics minimise
    image  [l(D_image(I)) + l'(D_image(G(z)))]  + report [l(D_report(S)) + l'(D_report(F(G(z))))]
  + joint  [l(D_joint(I, S)) + l'(D_joint(G(z), F(G(z))))]  - beta log Q(R = r | real film turned by r),
G and F minimise
    image g(D_image(G(z))) + report g(D_report(F(G(z)))) + joint g(D_joint(G(z), F(G(z))))
  - alpha log Q(R = r | G(z) turned by r)  + teacher_forcing [-log p(words) - log p(stops)].
A weight of 0 leaves its term out, and the work for it.

Shapes: B rows, C channels, H = W side [px], Y labels, S sentences, W words of a sentence, E embedding.
Source: EMIXER §3.2.3. Departures: docs/deviations.md#value-function, whose signs are mended there.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from emixer.config.model import GumbelConfig
from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.losses.adversarial import adversarial_loss
from emixer.losses.augmentation import NUM_UNIFORMS, augmented
from emixer.losses.rotation import in_all_rotations, rotated_rows, rotation_cross_entropy
from emixer.models.emixer import Emixer
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch, Objective, PairedModel, RowWeights
from emixer.models.report_decoder import RelaxedReport
from emixer.models.word_targets import stop_cross_entropy, word_cross_entropy

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class _FakePairs:
    """Generated rows as the critics read them. Reports are embedded in the tables of the two text critics."""

    image_BCHW: Tensor
    labels_BY: Tensor
    valid_BSW: Tensor
    report_BSWE: Tensor
    joint_BSWE: Tensor


class EmixerObjective(Objective):
    """The value function of EMIXER §3.2.3 with its signs mended."""

    def __init__(self, loss: LossConfig, gumbel: GumbelConfig) -> None:
        if loss.image == loss.report == loss.joint == loss.beta == 0:
            raise ConfigError(
                "loss.image, loss.report, loss.joint and loss.beta are all 0: no critic has anything to learn. "
                "Give at least one of them a positive weight."
            )
        if loss.image == loss.report == loss.joint == loss.alpha == loss.teacher_forcing == 0:
            raise ConfigError(
                "loss.image, loss.report, loss.joint, loss.alpha and loss.teacher_forcing are all 0: the generators "
                "have nothing to learn. Give at least one of them a positive weight."
            )
        self.loss = loss
        self.gumbel = gumbel
        self.adversarial = adversarial_loss(loss.adversarial)

    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, report, joint, rotation, each before its weight in the config."""
        assert isinstance(model, Emixer)
        real = _with_channels(real, model)
        with torch.no_grad():
            fake = self._sampled_fakes(model, fake_labels_BY, noise)
        real = replace(real, image_BCHW=self._augmented(real.image_BCHW, noise, "real"))
        fake = replace(fake, image_BCHW=self._augmented(fake.image_BCHW, noise, "fake"))
        terms: Terms = {}
        if self.loss.image > 0 or self.loss.beta > 0:
            terms |= self._image_terms(model, real, fake, noise, weights)
        if self.loss.report > 0:
            terms["report"] = self._report_term(model, real, fake, weights)
        if self.loss.joint > 0:
            terms["joint"] = self._joint_term(model, real, fake, weights)
        return self._total(terms, rotation=self.loss.beta)

    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: image, report, joint, rotation, words, stops, each before its weight in the config."""
        assert isinstance(model, Emixer)
        terms: Terms = {}
        if self._uses_films or self._uses_reports:
            image_BCHW = model.generate_films(fake_labels_BY, noise)
            seen_BCHW = self._augmented(image_BCHW, noise, "fake")
            if self._uses_films:
                terms |= self._fooling_films(model, seen_BCHW, fake_labels_BY, noise, weights)
            if self._uses_reports:
                terms |= self._fooling_reports(model, image_BCHW, seen_BCHW, noise, weights)
        if self.loss.teacher_forcing > 0:
            terms |= _teacher_forcing(model, _with_channels(real, model), weights)
        return self._total(terms, rotation=self.loss.alpha)

    @property
    def _uses_films(self) -> bool:
        return self.loss.image > 0 or self.loss.alpha > 0

    @property
    def _uses_reports(self) -> bool:
        return self.loss.report > 0 or self.loss.joint > 0

    def _total(self, terms: Terms, rotation: float) -> tuple[Tensor, Terms]:
        weight = {
            "image": self.loss.image, "report": self.loss.report, "joint": self.loss.joint, "rotation": rotation,
            "words": self.loss.teacher_forcing, "stops": self.loss.teacher_forcing,
        }  # fmt: skip
        total = torch.stack([weight[name] * term for name, term in terms.items()]).sum()
        return total, {name: term.detach() for name, term in terms.items()}

    # The critics' side

    def _sampled_fakes(self, model: Emixer, labels_BY: Tensor, noise: RowNoise) -> _FakePairs:
        image_BCHW = model.generate_films(labels_BY, noise)
        report_reader, joint_reader = model.report_discriminator.reader, model.joint_discriminator.reader
        if not self._uses_reports:
            nothing = labels_BY.new_empty(0)
            return _FakePairs(image_BCHW, labels_BY, nothing, nothing, nothing)
        if self.gumbel.straight_through:
            # Without gradients the straight-through word is a plain draw: one number a word instead of a vocabulary
            words_BSW = model.report_decoder.sample(image_BCHW, noise, temperature=1.0, unknown=True)
            return _FakePairs(
                image_BCHW, labels_BY, words_BSW != PAD, report_reader.embed(words_BSW), joint_reader.embed(words_BSW)
            )
        report = self._relaxed(model, image_BCHW, noise)
        return _FakePairs(image_BCHW, labels_BY, report.valid, *report.embedded_BSWE)

    def _image_terms(self, model: Emixer, real: Batch, fake: _FakePairs, noise: RowNoise, weights: RowWeights) -> Terms:
        critic = model.image_discriminator
        films: list[Tensor] = [real.image_BCHW, fake.image_BCHW] if self.loss.image > 0 else []
        if self.loss.beta > 0:
            films.append(self._rotated(real.image_BCHW, noise))
        features = critic.features(torch.cat(films))
        terms: Terms = {}
        if self.loss.image > 0:
            num_pairs = 2 * len(real)
            all_labelled_B = torch.ones_like(real.labelled_B)
            logit_real_B, logit_fake_B = critic.real_logit(
                features[:num_pairs],
                torch.cat([real.labels_BY, fake.labels_BY]),
                torch.cat([real.labelled_B, all_labelled_B]),
            ).chunk(2)
            per_row_B = self.adversarial.real(logit_real_B) + self.adversarial.fake(logit_fake_B)
            terms["image"] = per_row_B.sum() * weights.row
            features = features[num_pairs:]
        if self.loss.beta > 0:
            terms["rotation"] = self._rotation_term(critic.rotation_logits(features), weights)
        return terms

    def _report_term(self, model: Emixer, real: Batch, fake: _FakePairs, weights: RowWeights) -> Tensor:
        critic = model.report_discriminator
        words_BSW = _padded_like(real.words_BSW, fake.valid_BSW)
        logit_real_B, logit_fake_B = critic(
            torch.cat([critic.reader.embed(words_BSW), fake.report_BSWE]),
            torch.cat([words_BSW != PAD, fake.valid_BSW]),
        ).chunk(2)
        return self._text_loss(logit_real_B, logit_fake_B, real, weights)

    def _joint_term(self, model: Emixer, real: Batch, fake: _FakePairs, weights: RowWeights) -> Tensor:
        critic = model.joint_discriminator
        words_BSW = _padded_like(real.words_BSW, fake.valid_BSW)
        logit_real_B, logit_fake_B = critic(
            torch.cat([real.image_BCHW, fake.image_BCHW]),
            torch.cat([critic.reader.embed(words_BSW), fake.joint_BSWE]),
            torch.cat([words_BSW != PAD, fake.valid_BSW]),
        ).chunk(2)
        return self._text_loss(logit_real_B, logit_fake_B, real, weights)

    def _text_loss(self, logit_real_B: Tensor, logit_fake_B: Tensor, real: Batch, weights: RowWeights) -> Tensor:
        real_B = self.adversarial.real(logit_real_B).where(real.has_report_B, 0.0)
        return real_B.sum() * weights.report + self.adversarial.fake(logit_fake_B).sum() * weights.row

    # The generators' side

    def _fooling_films(
        self, model: Emixer, image_BCHW: Tensor, labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> Terms:
        critic = model.image_discriminator
        films: list[Tensor] = [image_BCHW] if self.loss.image > 0 else []
        if self.loss.alpha > 0:
            films.append(self._rotated(image_BCHW, noise))
        features = critic.features(torch.cat(films))
        terms: Terms = {}
        if self.loss.image > 0:
            num_films = len(image_BCHW)
            labelled_B = torch.ones(num_films, dtype=torch.bool, device=image_BCHW.device)
            logit_B = critic.real_logit(features[:num_films], labels_BY, labelled_B)
            terms["image"] = self.adversarial.generator(logit_B).sum() * weights.row
            features = features[num_films:]
        if self.loss.alpha > 0:
            terms["rotation"] = self._rotation_term(critic.rotation_logits(features), weights)
        return terms

    def _fooling_reports(
        self, model: Emixer, image_BCHW: Tensor, seen_BCHW: Tensor, noise: RowNoise, weights: RowWeights
    ) -> Terms:
        """image_BCHW: what F reads. seen_BCHW: the same films as D_joint sees them."""
        if not self.loss.report_gradient_to_image:
            image_BCHW, seen_BCHW = image_BCHW.detach(), seen_BCHW.detach()
        report = self._relaxed(model, image_BCHW, noise)
        report_BSWE, joint_BSWE = report.embedded_BSWE
        terms: Terms = {}
        if self.loss.report > 0:
            logit_B = model.report_discriminator(report_BSWE, report.valid)
            terms["report"] = self.adversarial.generator(logit_B).sum() * weights.row
        if self.loss.joint > 0:
            logit_B = model.joint_discriminator(seen_BCHW, joint_BSWE, report.valid)
            terms["joint"] = self.adversarial.generator(logit_B).sum() * weights.row
        return terms

    # Both sides

    def _augmented(self, image_BCHW: Tensor, noise: RowNoise, which: str) -> Tensor:
        if not self.loss.augment:
            return image_BCHW
        return augmented(image_BCHW, noise.uniform(f"augment/{which}", NUM_UNIFORMS), self.loss.augment)

    def _relaxed(self, model: Emixer, image_BCHW: Tensor, noise: RowNoise) -> RelaxedReport:
        tables = [model.report_discriminator.reader.embedding.weight, model.joint_discriminator.reader.embedding.weight]
        return model.report_decoder.relaxed(image_BCHW, noise, self.gumbel, tables)

    def _rotated(self, image_BCHW: Tensor, noise: RowNoise) -> Tensor:
        rows = rotated_rows(noise.first_row, len(image_BCHW), self.loss.rotation_share, image_BCHW.device)
        return in_all_rotations(image_BCHW[rows])

    def _rotation_term(self, rotation_logits: Tensor, weights: RowWeights) -> Tensor:
        return rotation_cross_entropy(rotation_logits) * weights.row / self.loss.rotation_share


def _teacher_forcing(model: Emixer, real: Batch, weights: RowWeights) -> Terms:
    decoder = model.report_decoder
    plan = decoder.plan(decoder.encoder(real.image_BCHW), real.words_BSW.shape[1])
    words_total, _ = word_cross_entropy(decoder.teacher_forced(plan.topics_BSE, real.words_BSW), real)
    stops_total = stop_cross_entropy(plan.stop_logits_BS2, real)
    return {"words": words_total * weights.word, "stops": stops_total * weights.stop}


def _with_channels(real: Batch, model: Emixer) -> Batch:
    """Gray films repeated (as a view) to the model's channels."""
    return replace(real, image_BCHW=real.image_BCHW.expand(-1, model.channels, -1, -1))


def _padded_like(words_BSW: Tensor, valid_BSW: Tensor) -> Tensor:
    """Real words padded to the shape of the generated ones, so that one pass takes both."""
    sentences = valid_BSW.shape[1] - words_BSW.shape[1]
    words = valid_BSW.shape[2] - words_BSW.shape[2]
    return functional.pad(words_BSW, (0, words, 0, sentences), value=PAD)
