"""EMIXER: the five networks together.

Shapes: B films, C channels, H = W side [px], Y labels, Z noise, S sentences, W words of a sentence.
Source: EMIXER §3.2, §6.2.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from emixer.config.model import EmixerModelConfig
from emixer.models.batch_norm import eval_mode
from emixer.models.image_discriminator import ImageDiscriminator
from emixer.models.image_generator import ImageGenerator
from emixer.models.joint_discriminator import JointDiscriminator
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, GeneratedPairs, ModelSpec, PairedModel
from emixer.models.report_decoder import ReportDecoder
from emixer.models.report_discriminator import ReportDiscriminator
from emixer.models.spectral_norm import advance_power_iterations
from emixer.models.word_targets import word_cross_entropy


class Emixer(PairedModel):
    """Image generator G, report decoder F, and the critics of films, of reports and of pairs."""

    def __init__(self, config: EmixerModelConfig, spec: ModelSpec, load_weights: bool = True) -> None:
        super().__init__()
        self.spec = spec
        num_labels, num_words = len(spec.label_names), len(spec.tokens)
        side_px = config.side_px
        self.channels = channels = config.channels
        self.gumbel = config.gumbel
        self.image_generator = ImageGenerator(config.image_generator, num_labels, side_px, channels)
        self.report_decoder = ReportDecoder(
            config.report_decoder, num_words, config.max_sentences, config.max_words, load_weights
        )
        self.image_discriminator = ImageDiscriminator(config.image_discriminator, num_labels, side_px, channels)
        self.report_discriminator = ReportDiscriminator(config.report_discriminator, num_words)
        self.joint_discriminator = JointDiscriminator(config.joint_discriminator, num_words, side_px, channels)

    def begin_step(self) -> None:
        """One power iteration of every spectrally normalized weight."""
        for network in (
            self.image_generator,
            self.image_discriminator,
            self.report_discriminator,
            self.joint_discriminator,
        ):
            advance_power_iterations(network)

    def generator_parameters(self) -> dict[str, list[nn.Parameter]]:
        """G under "image", F (with its encoder, unless that is frozen) under "report"."""
        frozen = (
            {id(p) for p in self.report_decoder.encoder.parameters()} if self.report_decoder.encoder.frozen else set()
        )
        return {
            "image": list(self.image_generator.parameters()),
            "report": [p for p in self.report_decoder.parameters() if id(p) not in frozen],
        }

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Parameters of the three critics."""
        critics: Iterable[nn.Module] = (self.image_discriminator, self.report_discriminator, self.joint_discriminator)
        return [parameter for critic in critics for parameter in critic.parameters()]

    def ema_modules(self) -> Sequence[str]:
        """Samples come from the averages of G and F."""
        return ("image_generator", "report_decoder")

    def noise_shape(self) -> int:
        """Dimensions of z: a chunk for the stem and one for each block."""
        return self.image_generator.noise_size

    def generate_films(self, labels_BY: Tensor, noise: RowNoise) -> Tensor:
        """Films (B, C, H, W) in [-1, 1] from the stream "z", in whatever mode and with whatever gradients hold."""
        films_BCHW: Tensor = self.image_generator(noise.normal("z", self.noise_shape()), labels_BY)
        return films_BCHW

    @torch.no_grad()
    def sample(self, labels_BY: Tensor, noise: RowNoise, temperature: float) -> GeneratedPairs:
        """One pair a row from the streams "z", "stop" and "words", in eval mode."""
        with eval_mode(self):
            image_BCHW = self.generate_films(labels_BY, noise)
            return GeneratedPairs(image_BCHW, self.report_decoder.sample(image_BCHW, noise, temperature))

    @torch.no_grad()
    def word_cross_entropy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum over target words of -log p [nats] and their number, in eval mode."""
        with eval_mode(self):
            decoder = self.report_decoder
            plan = decoder.plan(decoder.encoder(batch.image_BCHW), batch.words_BSW.shape[1])
            return word_cross_entropy(decoder.teacher_forced(plan.topics_BSE, batch.words_BSW), batch)
