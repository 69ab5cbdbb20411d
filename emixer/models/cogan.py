"""CoGAN, a baseline: an image generator and a report generator that share their first layers.

Original: one noise vector, two generators whose first layers are tied, two critics whose last layers are tied; nothing
else couples the domains, and no critic ever sees a pair. Here: the second domain is the report, so the report
generator continues from the tied features with EMIXER's report writer; labels condition the tied blocks, hence
both domains, and both critics by projection; the report generator is also trained on real reports (teacher forcing)
from noise and the labels of the image, since nothing encodes an image here.

Shapes: B images, C channels, H = W side [px], Y labels and columns of conditions, Z noise, F features, S sentences, W
words of a sentence.
Source: Liu & Tuzel 2016; EMIXER §4.3. Departures: docs/deviations.md#baselines.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.model import CoganModelConfig, ReportWriterConfig
from emixer.models.batch_norm import BatchNorm2d, eval_mode
from emixer.models.coupled_critics import CoupledCritics
from emixer.models.image_generator import ImageGenerator
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, GeneratedPairs, ModelSpec, PairedModel
from emixer.models.report_decoder import build_writer
from emixer.models.report_writer import WriterInput


@dataclass(frozen=True)
class TiedState:
    """Output of the layers that both generators share."""

    z_BZ: Tensor
    condition_BE: Tensor
    features_BFHW: Tensor


class ReportGenerator(nn.Module):
    """The report generator's own layers: tied features, normalized and averaged over positions, then the writer."""

    def __init__(
        self, config: ReportWriterConfig, feature_size: int, num_words: int, max_sentences: int, max_words: int
    ) -> None:
        super().__init__()
        self.norm = BatchNorm2d(feature_size)
        self.writer = build_writer(config, feature_size, 1, 0, num_words, max_sentences, max_words)

    def read(self, features_BFHW: Tensor) -> WriterInput:
        """Return the writer's input: one place, since there is no image with places to attend to."""
        return WriterInput(functional.relu(self.norm(features_BFHW)).float().mean(dim=(2, 3))[:, None])


class Cogan(PairedModel):
    """Two generators tied in their stem and first blocks, two critics tied in their last layers.

    The tied layers of the generators belong to `image_generator`; the report generator holds no copy of them.
    """

    def __init__(self, config: CoganModelConfig, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.channels = config.channels
        self.tied_blocks = config.tied_blocks
        num_words, num_given = len(spec.tokens), spec.num_labels + spec.num_conditions
        self.image_generator = ImageGenerator(config.image_generator, num_given, config.side_px, config.channels)
        self.report_generator = ReportGenerator(
            config.report_decoder, self.image_generator.widths[config.tied_blocks], num_words, config.max_sentences,
            config.max_words,
        )  # fmt: skip
        self.critics = CoupledCritics(config, spec.num_labels, num_words, spec.num_conditions)

    def generator_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The image generator, with the tied layers, under "image"; the report generator's own under "report"."""
        return {
            "image": list(self.image_generator.parameters()),
            "report": list(self.report_generator.parameters()),
        }

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Parameters of both critics; the tied ones once."""
        return list(self.critics.parameters())

    def ema_modules(self) -> Sequence[str]:
        """Samples come from the averages of both generators."""
        return ("image_generator", "report_generator")

    def tied(self, labels_BY: Tensor, noise: RowNoise) -> TiedState:
        """Run the tied layers on the stream "z"."""
        z_BZ = noise.normal("z", self.image_generator.noise_size)
        condition_BE = self.image_generator.embed_labels(labels_BY)
        return TiedState(z_BZ, condition_BE, self.image_generator.early(z_BZ, condition_BE, self.tied_blocks))

    def images(self, tied: TiedState) -> Tensor:
        """Return image_BCHW in [-1, 1], from the image generator's own layers."""
        return self.image_generator.late(tied.features_BFHW, tied.z_BZ, tied.condition_BE, self.tied_blocks)

    @torch.no_grad()
    def sample(self, labels_BY: Tensor, noise: RowNoise, temperature: float) -> GeneratedPairs:
        """Draw one pair per row from the streams "z", "stop" and "words", in eval mode."""
        with eval_mode(self):
            tied = self.tied(labels_BY, noise)
            condition = self.report_generator.read(tied.features_BFHW)
            return GeneratedPairs(self.images(tied), self.report_generator.writer.write(condition, noise, temperature))

    @torch.no_grad()
    def word_cross_entropy(self, batch: Batch, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Return the sum over target words of -log p(word | labels, z, words before) [nats] and their number, in eval
        mode, for one z per row. Rows without labels are left out: this model conditions reports on labels alone."""
        with eval_mode(self):
            condition = self.report_generator.read(self.tied(batch.labels_BY, noise).features_BFHW)
            nats = self.report_generator.writer.nats(condition, batch.with_labelled_reports())
            return nats.words, nats.num_words
