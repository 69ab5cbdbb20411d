"""Models that generate an image from labels, then the report from the image: EMIXER and SM-GAN.

Shapes: B images, C channels, H = W side [px], Y labels and columns of conditions, Z noise, S sentences, W
words of a sentence.
Source: EMIXER §3.2.1, §3.2.2.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emixer.config.model import EmixerModelConfig, SmganModelConfig
from emixer.models.batch_norm import eval_mode
from emixer.models.image_generator import ImageGenerator
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, GeneratedPairs, ModelSpec, PairedModel
from emixer.models.report_decoder import ReportDecoder


class ImageFirstModel(PairedModel):
    """Image generator G and report decoder F; subclasses add the critics."""

    def __init__(self, config: EmixerModelConfig | SmganModelConfig, spec: ModelSpec, load_weights: bool) -> None:
        super().__init__()
        self.spec = spec
        self.channels = config.channels
        self.image_generator = ImageGenerator(
            config.image_generator, spec.num_labels + spec.num_conditions, config.side_px, config.channels
        )
        self.report_decoder = ReportDecoder(
            config.report_decoder, spec.num_labels, len(spec.tokens), config.max_sentences, config.max_words,
            load_weights, spec.condition_sizes,
        )  # fmt: skip

    @abstractmethod
    def critics(self) -> Sequence[nn.Module]:
        """The critics, each a submodule."""

    def generator_parameters(self) -> dict[str, list[nn.Parameter]]:
        """G under "image", F (with its encoder, unless frozen) under "report"."""
        return {
            "image": list(self.image_generator.parameters()),
            "report": self.report_decoder.trainable_parameters(),
        }

    def discriminator_parameters(self) -> list[nn.Parameter]:
        """Parameters of all critics."""
        return [parameter for critic in self.critics() for parameter in critic.parameters()]

    def ema_modules(self) -> Sequence[str]:
        """Samples come from the averages of G and F."""
        return ("image_generator", "report_decoder")

    def generate_images(self, labels_BY: Tensor, noise: RowNoise) -> Tensor:
        """Generate images (B, C, H, W) in [-1, 1] from the stream "z", in the current train and gradient modes."""
        images_BCHW: Tensor = self.image_generator(noise.normal("z", self.image_generator.noise_size), labels_BY)
        return images_BCHW

    @torch.no_grad()
    def sample(self, labels_BY: Tensor, noise: RowNoise, temperature: float) -> GeneratedPairs:
        """Draw one pair per row from the streams "z", "stop" and "words", in eval mode."""
        with eval_mode(self):
            image_BCHW = self.generate_images(labels_BY, noise)
            return GeneratedPairs(image_BCHW, self.report_decoder.sample(image_BCHW, labels_BY, noise, temperature))

    def word_cross_entropy(self, batch: Batch, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Return the sum over target words of -log p(word | what F reads, words before) [nats] and their number, in
        eval mode."""
        return self.report_decoder.word_cross_entropy(batch)
