"""Report decoder F: an image -> its report, through a chest encoder followed by a report writer.

F's encoder may be trained on labels, and conditions if there are any, beside the words (`label_head`,
`condition_head`): words alone teach it hardly anything in the length of a GAN run.

Shapes: B images, C channels, H = W side [px], P places of the feature map, V features, L labels, Y labels and columns
of conditions, S sentences, W words of a sentence.
Source: EMIXER §3.2.2, §6.2.2. Departures: docs/deviations.md#report-decoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emixer.config.model import (
    HierarchicalWriterConfig,
    ReportDecoderConfig,
    ReportWriterConfig,
)
from emixer.models.attentive_writer import AttentiveWriter
from emixer.models.batch_norm import eval_mode
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.frozen import frozen
from emixer.models.hierarchical_writer import HierarchicalWriter
from emixer.models.noise import NoiseSource
from emixer.models.paired_model import Batch
from emixer.models.report_writer import ReportWriter, WriterInput


def build_writer(
    config: ReportWriterConfig, feature_size: int, num_places: int, num_labels: int, num_words: int, max_sentences: int,
    max_words: int, num_conditions: int = 0,
) -> ReportWriter:  # fmt: skip
    """Build the writer of that kind, for feature maps of `num_places` places. num_labels=0: it reads neither labels nor
    the conditions beside them."""
    if isinstance(config, HierarchicalWriterConfig):
        return HierarchicalWriter(config, feature_size, num_labels, num_words, max_sentences, max_words, num_conditions)
    return AttentiveWriter(
        config, feature_size, num_places, num_labels, num_words, max_sentences, max_words, num_conditions
    )


class ReportDecoder(nn.Module):
    """F(image), or F(image, labels)."""

    def __init__(
        self, config: ReportDecoderConfig, num_labels: int, num_words: int, max_sentences: int, max_words: int,
        load_weights: bool = True, condition_sizes: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder = ChestEncoder(config.encoder, load_weights=load_weights)
        size = self.encoder.feature_size
        self.label_head = nn.Linear(size, num_labels)
        self.condition_sizes = tuple(condition_sizes)
        num_conditions = sum(condition_sizes)
        self.condition_head = nn.Linear(size, num_conditions) if num_conditions else None
        self.reads_labels = config.reads == "image-and-labels"
        labels_read = num_labels if self.reads_labels else 0
        places = self.encoder.num_places
        self.writer = build_writer(
            config, size, places, labels_read, num_words, max_sentences, max_words, num_conditions
        )

    def read(self, image_BCHW: Tensor) -> Tensor:
        """Return the feature map (B, P, V) of real or generated images, by the encoder's running statistics: those of
        real images, also used in sampling. Gradients reach the images, but not the encoder, which learns from real
        images, see `places`."""
        with eval_mode(self.encoder), frozen(self.encoder.parameters()):
            return self.encoder.places(image_BCHW)

    def places(self, image_BCHW: Tensor) -> Tensor:
        """Return the feature map (B, P, V) of real images, from which the encoder learns."""
        return self.encoder.places(image_BCHW)

    def label_logits(self, image_BPV: Tensor) -> Tensor:
        """Return logits (B, L), float32, of the labels of real images, given the output of `places`."""
        logits_BL: Tensor = self.label_head(image_BPV.mean(dim=1))
        return logits_BL.float()

    def condition_logits(self, image_BPV: Tensor) -> tuple[Tensor, ...]:
        """Return logits (B, number of its values), float32, of each condition of real images, as `label_logits`."""
        if self.condition_head is None:
            return ()
        logits_BC: Tensor = self.condition_head(image_BPV.mean(dim=1))
        return tuple(logits_BC.float().split(self.condition_sizes, dim=1))

    def conditions_seen(self, image_BPV: Tensor) -> tuple[Tensor, ...]:
        """Return `condition_logits` given the output of `read`, without training the head, whatever the images show."""
        if self.condition_head is None:
            return ()
        with frozen(self.condition_head.parameters()):
            return self.condition_logits(image_BPV)

    def labels_seen(self, image_BPV: Tensor) -> Tensor:
        """Return `label_logits` given the output of `read`, without training the head, whatever the images show."""
        with frozen(self.label_head.parameters()):
            return self.label_logits(image_BPV)

    def condition(self, image_BPV: Tensor, labels_BY: Tensor, labelled_B: Tensor | None = None) -> WriterInput:
        """Return the writer's input: the image's places and, if F reads them, the labels of rows that have them
        (labelled_B; None: all), followed by the conditions."""
        return WriterInput(image_BPV, labels_BY, labelled_B) if self.reads_labels else WriterInput(image_BPV)

    @torch.no_grad()
    def sample(self, image_BCHW: Tensor, labels_BY: Tensor, noise: NoiseSource, temperature: float) -> Tensor:
        """Sample token ids (B, S, W) of reports of images generated from these labels; see `ReportWriter.write`."""
        return self.writer.write(self.condition(self.read(image_BCHW), labels_BY), noise, temperature)

    @torch.no_grad()
    def word_cross_entropy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum over target words of -log p(word | what F reads, words before) [nats] and their number, in
        eval mode."""
        with eval_mode(self):
            condition = self.condition(self.read(batch.image_BCHW), batch.labels_BY, batch.labelled_B)
            nats = self.writer.nats(condition, batch)
            return nats.words, nats.num_words

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return all parameters except those of a frozen encoder."""
        fixed = {id(p) for p in self.encoder.parameters()} if self.encoder.frozen else set()
        return [p for p in self.parameters() if id(p) not in fixed]
