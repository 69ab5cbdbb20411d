"""Downstream models: labels of an image, labels of a pair, report of an image. The same for every method and mixture.

Shapes: B pairs of a batch, C channels, H = W side [px], P image features, R report features, Y labels, S sentences, W
words of a sentence.
Source: EMIXER §4.4 (image classification, report generation, joint embedding), which does not describe the networks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from emixer.config.experiment import DownstreamConfig
from emixer.data.pair_table import Mixture, PairTable, TableShape
from emixer.downstream.fit import Fit, LossOf, Model, PairBatch, fit, predict
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch
from emixer.models.report_decoder import ReportDecoder
from emixer.models.report_writer import WriterInput
from emixer.models.words import ReportReader


class JointClassifier(nn.Module):
    """Labels from an image and its report: concatenated features, then one linear layer."""

    def __init__(self, settings: DownstreamConfig, num_words: int, num_labels: int) -> None:
        super().__init__()
        self.encoder = ChestEncoder(settings.network, num_labels=num_labels)
        self.reader = ReportReader(num_words, settings.joint_hidden, settings.joint_hidden)
        self.classifier = nn.Linear(self.encoder.classifier.in_features + settings.joint_hidden, num_labels)

    def forward(self, image_BCHW: Tensor, words_BSW: Tensor) -> Tensor:
        """Return logits (B, Y), float32."""
        image_BP = self.encoder.final_features(image_BCHW)
        report_BR = self.reader(self.reader.embed(words_BSW), words_BSW != PAD)
        logits_BY: Tensor = self.classifier(torch.cat([image_BP, report_BR], dim=1))
        return logits_BY.float()


@dataclass(frozen=True)
class Data:
    """What a downstream model is trained, selected and tested on."""

    train: Mixture
    validation: PairTable
    test: PairTable
    shape: TableShape
    first: Mixture | None = None
    """Pairs to train on before `train`, for half of the steps."""


def classify_images(data: Data, settings: DownstreamConfig, seed: int, device: torch.device) -> tuple[Tensor, Fit]:
    """Return scores (N, Y) of the test images, logits of each label, from a classifier trained on images alone."""
    model = new_classifier(settings, len(data.shape.label_names), seed)
    found = _fit_labels(model, _image_logits, label_loss, data, settings, seed, device)
    return predict(model, _image_logits, data.test, device), found


def classify_pairs(data: Data, settings: DownstreamConfig, seed: int, device: torch.device) -> tuple[Tensor, Fit]:
    """Return scores (N, Y) of the test pairs, logits of each label, from image and report together."""
    torch.manual_seed(seed)
    model = JointClassifier(settings, len(data.shape.vocabulary), len(data.shape.label_names))
    found = _fit_labels(model, _pair_logits, label_loss, data, settings, seed, device)
    return predict(model, _pair_logits, data.test, device), found


def classify_classes(
    pretraining: Data | None, data: Data, settings: DownstreamConfig, seed: int, device: torch.device
) -> tuple[Tensor, Fit]:
    """Return logits (N, Y) of test images that each have exactly one class.

    pretraining: data of a classifier trained first, whose features initialize this one. None: from scratch.
    """
    model = new_classifier(settings, len(data.shape.label_names), seed)
    if pretraining is not None:
        first = new_classifier(settings, len(pretraining.shape.label_names), seed)
        _fit_labels(first, _image_logits, label_loss, pretraining, settings, seed, device)
        model.features.load_state_dict(first.features.state_dict())
    found = _fit_labels(model, _image_logits, class_loss, data, settings, seed, device)
    return predict(model, _image_logits, data.test, device), found


def image_probabilities(
    data: Data, images: PairTable, settings: DownstreamConfig, seed: int, device: torch.device
) -> Tensor:
    """Return probabilities (N, Y) of each label in `images`, by a classifier trained as in `classify_images`."""
    model = new_classifier(settings, len(data.shape.label_names), seed)
    _fit_labels(model, _image_logits, label_loss, data, settings, seed, device)
    return predict(model, _image_logits, images, device).sigmoid()


def write_reports(
    data: Data, settings: DownstreamConfig, seed: int, device: torch.device
) -> tuple[NDArray[np.int32], Fit]:
    """Return token ids (N, S, W) of a report for each test image, the likeliest word at each position."""
    shape = data.shape
    torch.manual_seed(seed)
    model = ReportDecoder(
        settings.report_decoder, len(shape.label_names), len(shape.vocabulary), shape.max_sentences, shape.max_words
    )
    found = _fit(model, _report_loss, data, settings, seed, device, selects_by=_word_loss)

    def written(model: ReportDecoder, batch: PairBatch) -> Tensor:
        noise = RowNoise(0, 0, 0, len(batch.image_BCHW), device)  # unused: nothing is drawn at temperature 0
        return model.sample(batch.image_BCHW, batch.labels_BY, noise, temperature=0.0)

    return predict(model, written, data.test, device).int().numpy(), found


def new_classifier(settings: DownstreamConfig, num_labels: int, seed: int) -> ChestEncoder:
    """Create an untrained image classifier; the seed determines its weights."""
    torch.manual_seed(seed)
    return ChestEncoder(settings.network, num_labels=num_labels)


def label_loss(logits_BY: Tensor, labels_BY: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the binary cross-entropies of the known labels, and their number."""
    known_BY = ~labels_BY.isnan()
    each_BY = functional.binary_cross_entropy_with_logits(logits_BY, labels_BY.nan_to_num(), reduction="none")
    return each_BY.where(known_BY, 0.0).sum(), known_BY.sum()


def class_loss(logits_BY: Tensor, labels_BY: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropies of classes of which an image has exactly one, and the number of images."""
    num = torch.full((), len(labels_BY), device=labels_BY.device)
    return functional.cross_entropy(logits_BY, labels_BY.argmax(1), reduction="sum"), num


def _image_logits(model: ChestEncoder, batch: PairBatch) -> Tensor:
    return model.logits(model.final_features(batch.image_BCHW))


def _pair_logits(model: JointClassifier, batch: PairBatch) -> Tensor:
    logits_BY: Tensor = model(batch.image_BCHW, batch.words_BSW)
    return logits_BY


def _report_loss(model: ReportDecoder, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return nats of words and report ends, plus the mean label loss once per word, and the number of words."""
    image_BPV = model.places(batch.image_BCHW)
    of_words, num_words = _nats_of_words(model, image_BPV, batch)
    of_labels, num_labels = label_loss(model.label_logits(image_BPV), batch.labels_BY)
    return of_words + num_words * of_labels / num_labels.clamp(min=1), num_words


def _word_loss(model: ReportDecoder, batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return nats of words and report ends, and the number of words: labels that are learned by heart must not decide
    which weights write best."""
    return _nats_of_words(model, model.places(batch.image_BCHW), batch)


def _nats_of_words(model: ReportDecoder, image_BPV: Tensor, batch: PairBatch) -> tuple[Tensor, Tensor]:
    has_report_B = (batch.words_BSW != PAD).flatten(1).any(1)
    target = Batch(
        batch.image_BCHW, batch.labels_BY, has_report_B, batch.words_BSW, has_report_B, batch.num_report_words
    )
    nats = model.writer.nats(WriterInput(image_BPV), target)
    return nats.words + nats.stops, nats.num_words


def _fit_labels(
    model: Model, logits_of: Callable[[Model, PairBatch], Tensor],
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], data: Data, settings: DownstreamConfig, seed: int,
    device: torch.device,
) -> Fit:  # fmt: skip
    def loss_of(model: Model, batch: PairBatch) -> tuple[Tensor, Tensor]:
        return loss(logits_of(model, batch), batch.labels_BY)

    return _fit(model, loss_of, data, settings, seed, device)


def _fit(
    model: Model, loss_of: LossOf[Model], data: Data, settings: DownstreamConfig, seed: int, device: torch.device,
    selects_by: LossOf[Model] | None = None,
) -> Fit:  # fmt: skip
    """Train on `data.train`, or half of the steps on `data.first` and the rest on `data.train`."""

    def fitted(mixture: Mixture, images: int) -> Fit:
        part = settings.model_copy(update={"images": images})
        return fit(model, loss_of, mixture, data.validation, part, seed, device, selects_by)

    if data.first is None:
        return fitted(data.train, settings.images)
    before = settings.images // 2
    fitted(data.first, before)
    found = fitted(data.train, settings.images - before)
    return Fit(before + found.images, found.validation_loss)
