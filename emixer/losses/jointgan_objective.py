"""JointGAN's game: one softmax critic classifies pairs by kind, the generators want every kind classified as real.

    kind 0  (x, s)        a real pair
    kind 1  (x, s~ | x)   a real image and a report written from it
    kind 2  (x~ | s, s)   a real report and an image generated from it
    kind 3  (x~, s~ | x~) an image generated from labels and a report written from it
    kind 4  (x~ | s~, s~) a report written from labels and an image generated from it

The critic minimises the mean over kinds of -log g_k(pair of kind k); the generators minimise the mean over k > 0 of
-log g_0(pair of kind k), which has a gradient while the critic is winning (the minimax form, log g_k, has none).

Shapes: B rows, N = several batches of B, C channels, H = W side [px], Y labels, S sentences, W words, E embedding.
Source: Pu et al. 2018, §3.2; EMIXER §4.3. Departures: docs/deviations.md#baselines.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from emixer.config.model import GumbelConfig
from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.losses.augmentation import Augmenter
from emixer.losses.rotation import in_all_rotations, rotation_term
from emixer.losses.row_share import rows_of_share
from emixer.losses.terms import (
    Terms,
    padded_like,
    require_a_term,
    teacher_forcing,
    teacher_forcing_terms,
    weighted_total,
    with_channels,
)
from emixer.models.conditioning import known_to_both
from emixer.models.jointgan import Jointgan
from emixer.models.noise import NoiseSource, RowNoise, StackedNoise
from emixer.models.pair_type_critic import NUM_PAIR_TYPES, REAL_PAIR
from emixer.models.paired_model import PAD, Batch, Objective, PairedModel, RowWeights
from emixer.models.report_writer import WriterInput, written_for


@dataclass(frozen=True)
class _Pairs:
    """Pairs of one or several kinds, stacked. Reports are embedded in the critic's table."""

    image_NCHW: Tensor
    embedded_NSWE: Tensor
    valid_NSW: Tensor
    labels_NY: Tensor
    labelled_N: Tensor
    weight_N: Tensor
    """Weight of each pair in the mean of its kind; 0 where the row has no report, even of kinds that need none: else
    rows that lack both labels and report would tell the critic that whatever it judges without labels is generated."""
    kind_N: Tensor


class JointganObjective(Objective):
    """Terms: "joint" (kinds of pairs) and "rotation" of both players, teacher forcing of both report distributions."""

    def __init__(self, loss: LossConfig, gumbel: GumbelConfig) -> None:
        require_a_term(loss, ("joint", "beta"), ("joint", "alpha", "teacher_forcing"))
        if loss.augment_target is not None:
            raise ConfigError(
                "loss.augment_target is set, but JointGAN has no image discriminator for it to follow. Set it to null: "
                "then loss.augment applies to every image."
            )
        self.augment = Augmenter(loss.augment)
        self.loss = loss
        self.gumbel = gumbel

    def discriminator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: joint, rotation."""
        assert isinstance(model, Jointgan)
        real = with_channels(real, model.channels)
        terms: Terms = {}
        if self.loss.beta > 0:
            terms["rotation"] = self._rotation_term(model, real.image_BCHW, noise, weights)
        if self.loss.joint > 0:
            with torch.no_grad():
                generated = self._generated(model, real, fake_labels_BY, noise, weights)
            pairs = _stacked(_real_pairs(model, real, generated, weights), generated)
            terms["joint"] = self._naming(model, pairs, pairs.kind_N, noise) / NUM_PAIR_TYPES
        return weighted_total(terms, self.loss, rotation=self.loss.beta)

    def generator_loss(
        self, model: PairedModel, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> tuple[Tensor, Terms]:
        """Terms: joint, rotation, words, stops and labels (given the image), words_of_labels and stops_of_labels."""
        assert isinstance(model, Jointgan)
        real = with_channels(real, model.channels)
        terms: Terms = {}
        if self.loss.joint > 0 or self.loss.alpha > 0:
            pairs = self._generated(model, real, fake_labels_BY, noise, weights)
            if self.loss.joint > 0:
                wanted_N = torch.full_like(pairs.kind_N, REAL_PAIR)
                terms["joint"] = self._naming(model, pairs, wanted_N, noise) / (NUM_PAIR_TYPES - 1)
            if self.loss.alpha > 0:
                image_of_labels_BCHW = pairs.image_NCHW.chunk(NUM_PAIR_TYPES - 1)[2]
                terms["rotation"] = self._rotation_term(model, image_of_labels_BCHW, noise, weights)
        terms |= teacher_forcing(model.report_decoder, real, weights, self.loss, noise)
        if self.loss.teacher_forcing > 0:
            writer = model.report_decoder.writer
            condition = model.condition_of_labels(real.labels_BY, noise.named("taught"))
            taught = teacher_forcing_terms(
                writer, condition, real.with_labelled_reports(), weights.of_labelled(), self.loss, noise
            )
            terms |= {f"{name}_of_labels": term for name, term in taught.items()}
        return weighted_total(terms, self.loss, rotation=self.loss.alpha)

    def _naming(self, model: Jointgan, pairs: _Pairs, kind_N: Tensor, noise: RowNoise) -> Tensor:
        """Return the sum over kinds of the mean of -log g_kind."""
        num = len(pairs.kind_N) // noise.num_rows
        images = [
            self.augment(image_BCHW, noise, f"pair {index}")
            for index, image_BCHW in enumerate(pairs.image_NCHW.chunk(num))
        ]
        logits_NK = model.critic(
            torch.cat(images), pairs.embedded_NSWE, pairs.valid_NSW, pairs.labels_NY, pairs.labelled_N
        )
        return (functional.cross_entropy(logits_NK, kind_N, reduction="none") * pairs.weight_N).sum()

    def _rotation_term(self, model: Jointgan, image_BCHW: Tensor, noise: RowNoise, weights: RowWeights) -> Tensor:
        seen_BCHW = self.augment(image_BCHW, noise, "rotation")
        rows_R = rows_of_share(noise.first_row, len(seen_BCHW), self.loss.rotation_share, seen_BCHW.device)
        logits = model.critic.rotation_logits(model.critic.features(in_all_rotations(seen_BCHW[rows_R])))
        return rotation_term(logits, self.loss.rotation_share, weights)

    def _generated(
        self, model: Jointgan, real: Batch, fake_labels_BY: Tensor, noise: RowNoise, weights: RowWeights
    ) -> _Pairs:
        """Generate kinds 1 to 4. All images are generated in one pass, so that batch norm sees images of every origin,
        in training as in its running statistics; the reports of images are written in one pass too. Under
        `torch.no_grad` only the critic's word embeddings have a gradient."""
        alone = model.condition_of_labels(fake_labels_BY, noise.named("report alone"))
        critic_4, condition_4, valid_4 = self._written(model, alone, noise.named("4"))
        words_BSW = padded_like(real.words_BSW, valid_4)
        condition_reader = model.report_condition.reader
        image_BCHW, image_2, image_4 = model.images(
            fake_labels_BY,
            [(condition_reader.embed(words_BSW), words_BSW != PAD), (condition_4, valid_4)],
            [noise, noise.named("image of real report"), noise.named("image of report")],
        )
        read_BCHW = image_BCHW if self.loss.report_gradient_to_image else image_BCHW.detach()
        both = model.report_decoder.condition(
            model.report_decoder.read(torch.cat([real.image_BCHW, read_BCHW])),
            torch.cat([real.labels_BY, fake_labels_BY]),
            torch.cat([real.labelled_B, torch.ones_like(real.labelled_B)]),
        )
        written = StackedNoise([noise.named("1"), noise.named("3")])
        critic_NSWE, _, valid_NSW = self._written(model, both, written)
        valid_1, valid_3 = valid_NSW.chunk(2)
        with torch.enable_grad():
            critic_1, critic_3 = critic_NSWE.chunk(2)
            critic_2 = model.critic.reader.embed(words_BSW)
            embedded_NSWE = torch.cat([critic_1, critic_2, critic_3, critic_4])
        real_BY, fake_BY = known_to_both(real.labels_BY, fake_labels_BY, model.spec.condition_sizes)
        return _Pairs(
            image_NCHW=torch.cat([real.image_BCHW, image_2, image_BCHW, image_4]),
            embedded_NSWE=embedded_NSWE,
            valid_NSW=torch.cat([valid_1, words_BSW != PAD, valid_3, valid_4]),
            labels_NY=torch.cat([real_BY, real_BY, fake_BY, fake_BY]),
            labelled_N=real.labelled_B.repeat(NUM_PAIR_TYPES - 1),  # else the critic tells kinds by them
            weight_N=(real.has_report_B * weights.report).repeat(NUM_PAIR_TYPES - 1),
            kind_N=torch.arange(1, NUM_PAIR_TYPES, device=image_BCHW.device).repeat_interleave(len(real)),
        )

    def _written(self, model: Jointgan, condition: WriterInput, noise: NoiseSource) -> tuple[Tensor, Tensor, Tensor]:
        """Return reports as the critic reads them, as `report_condition` reads them, and where there is a word."""
        readers = (model.critic.reader, model.report_condition.reader)
        report = written_for(model.report_decoder.writer, condition, noise, self.gumbel, readers)
        critic_NSWE, condition_NSWE = report.embedded_BSWE
        return critic_NSWE, condition_NSWE, report.valid


def _real_pairs(model: Jointgan, real: Batch, generated: _Pairs, weights: RowWeights) -> _Pairs:
    words_BSW = padded_like(real.words_BSW, generated.valid_NSW)
    return _Pairs(
        image_NCHW=real.image_BCHW,
        embedded_NSWE=model.critic.reader.embed(words_BSW),
        valid_NSW=words_BSW != PAD,
        labels_NY=generated.labels_NY[: len(real)],  # of the real image too
        labelled_N=real.labelled_B,
        weight_N=real.has_report_B * weights.report,
        kind_N=torch.full_like(real.has_report_B, REAL_PAIR, dtype=torch.int64),
    )


def _stacked(first: _Pairs, second: _Pairs) -> _Pairs:
    return _Pairs(**{
        name: torch.cat([getattr(first, name), getattr(second, name)]) for name in _Pairs.__dataclass_fields__
    })  # fmt: skip
