"""JointGAN, a baseline: images and reports, each generated alone and each from the other.

Original: generators for p(x) p(y | x) and for p(y) p(x | y), where the marginal and the conditional generator of a
domain share their weights and differ in their inputs, and one softmax critic over all kinds of pairs. Here: y is the
report; labels condition the marginals, p(image | labels) and p(report | labels), while a conditional sees only the
other half; conditional reports are trained on real pairs, marginal reports on real reports (teacher forcing).

Shapes: B images, C channels, H = W side [px], Y labels and columns of conditions, Z noise, V features, S
sentences, W words, E embedding.
Source: Pu et al. 2018; EMIXER §4.3. Departures: docs/deviations.md#baselines.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emixer.config.model import JointganModelConfig
from emixer.models.batch_norm import eval_mode
from emixer.models.image_generator import ImageGenerator
from emixer.models.noise import RowNoise
from emixer.models.pair_type_critic import PairTypeCritic
from emixer.models.paired_model import PAD, Batch, GeneratedPairs, ModelSpec, PairedModel
from emixer.models.report_decoder import ReportDecoder
from emixer.models.report_writer import WriterInput
from emixer.models.words import ReportReader


class ReportPrior(nn.Module):
    """Substitute for an image's features when a report is generated alone: noise and labels -> v_B1V."""

    def __init__(self, noise_size: int, num_given: int, feature_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(noise_size + num_given, feature_size), nn.ReLU(), nn.Linear(feature_size, feature_size)
        )

    def forward(self, z_BZ: Tensor, labels_BY: Tensor) -> Tensor:
        """Return v_B1V, float32."""
        features_BV: Tensor = self.layers(torch.cat([z_BZ, labels_BY], dim=1))
        return features_BV.float()[:, None]


class ReportCondition(nn.Module):
    """Substitute for the label embedding when an image is generated from a report: words -> condition_BE."""

    def __init__(self, num_words: int, word_embedding: int, hidden: int, condition_size: int) -> None:
        super().__init__()
        self.reader = ReportReader(num_words, word_embedding, hidden)
        self.embed = nn.Linear(hidden, condition_size)

    def forward(self, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Return condition_BE for words embedded by `reader`."""
        condition_BE: Tensor = self.embed(self.reader(embedded_BSWE, valid_BSW))
        return condition_BE


class Jointgan(PairedModel):
    """Two generators, each for a marginal and a conditional, and one critic."""

    def __init__(self, config: JointganModelConfig, spec: ModelSpec, load_weights: bool = True) -> None:
        super().__init__()
        self.spec = spec
        self.channels = config.channels
        self.direction = config.direction
        num_labels, num_words = spec.num_labels, len(spec.tokens)
        num_given = num_labels + spec.num_conditions
        images, reader = config.image_generator, config.joint_discriminator
        self.image_generator = ImageGenerator(images, num_given, config.side_px, config.channels)
        self.report_condition = ReportCondition(num_words, reader.word_embedding, reader.hidden, images.label_embedding)
        self.report_decoder = ReportDecoder(
            config.report_decoder, num_labels, num_words, config.max_sentences, config.max_words, load_weights,
            spec.condition_sizes,
        )  # fmt: skip
        self.report_prior = ReportPrior(
            self.image_generator.noise_size, num_given, self.report_decoder.encoder.feature_size
        )
        self.critic = PairTypeCritic(
            config.joint_discriminator, num_labels, num_words, config.side_px, config.channels, spec.num_conditions
        )

    def generator_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that generate images under "image", those that write reports under "report"."""
        return {
            "image": [*self.image_generator.parameters(), *self.report_condition.parameters()],
            "report": [*self.report_decoder.trainable_parameters(), *self.report_prior.parameters()],
        }

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the one critic."""
        return list(self.critic.parameters())

    def ema_modules(self) -> Sequence[str]:
        """Samples come from the averages of both generators."""
        return ("image_generator", "report_condition", "report_decoder", "report_prior")

    def images(
        self, labels_BY: Tensor, reports: Sequence[tuple[Tensor, Tensor]], noise: Sequence[RowNoise]
    ) -> tuple[Tensor, ...]:
        """Generate images of labels, and of each of `reports` (words embedded by `report_condition.reader`, and where
        they are valid), in one pass of the image generator, with the stream "z" of one source in `noise` for each."""
        conditions = [self.image_generator.embed_labels(labels_BY)]
        conditions += [self.report_condition(embedded_BSWE, valid_BSW) for embedded_BSWE, valid_BSW in reports]
        z_NZ = torch.cat([source.normal("z", self.image_generator.noise_size) for source in noise])
        return self.image_generator.render(z_NZ, torch.cat(conditions)).chunk(len(conditions))

    def images_of_labels(self, labels_BY: Tensor, noise: RowNoise) -> Tensor:
        """p(image | labels) from the stream "z": image_BCHW in [-1, 1]."""
        images_BCHW: Tensor = self.image_generator(noise.normal("z", self.image_generator.noise_size), labels_BY)
        return images_BCHW

    def images_of_reports(self, embedded_BSWE: Tensor, valid_BSW: Tensor, noise: RowNoise) -> Tensor:
        """p(image | report) from the stream "z", for words embedded by `report_condition.reader`."""
        condition_BE = self.report_condition(embedded_BSWE, valid_BSW)
        return self.image_generator.render(noise.normal("z", self.image_generator.noise_size), condition_BE)

    def condition_of_labels(self, labels_BY: Tensor, noise: RowNoise) -> WriterInput:
        """Return the input of p(report | labels), from the stream "z": the same v_BV at all places of an image."""
        features_B1V: Tensor = self.report_prior(noise.normal("z", self.image_generator.noise_size), labels_BY)
        places_BPV = features_B1V.expand(-1, self.report_decoder.encoder.num_places, -1)
        return self.report_decoder.condition(places_BPV, labels_BY)

    @torch.no_grad()
    def sample(self, labels_BY: Tensor, noise: RowNoise, temperature: float) -> GeneratedPairs:
        """Draw one pair per row, in the config's direction, from the streams "z", "stop" and "words", in eval mode."""
        with eval_mode(self):
            if self.direction == "image_first":
                image_BCHW = self.images_of_labels(labels_BY, noise)
                return GeneratedPairs(image_BCHW, self.report_decoder.sample(image_BCHW, labels_BY, noise, temperature))
            words_BSW = self.report_decoder.writer.write(self.condition_of_labels(labels_BY, noise), noise, temperature)
            embedded_BSWE = self.report_condition.reader.embed(words_BSW)
            images_BCHW = self.images_of_reports(embedded_BSWE, words_BSW != PAD, noise.named("image of report"))
            return GeneratedPairs(images_BCHW, words_BSW)

    def word_cross_entropy(self, batch: Batch, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Return the sum over target words of -log p(word | image, words before) [nats] and their number, in eval
        mode."""
        return self.report_decoder.word_cross_entropy(batch)
