"""Loss terms by name: the part that all games share.

Shapes: B rows, P places, V features, L labels, Y labels and columns of conditions, K values of a condition, S
sentences, W words of a sentence.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch, RowWeights
from emixer.models.report_decoder import ReportDecoder
from emixer.models.report_writer import ReportWriter, WriterInput

Terms = dict[str, Tensor]


def weighted_total(terms: Terms, loss: LossConfig, rotation: float) -> tuple[Tensor, Terms]:
    """Return the weighted sum of the terms, and the terms themselves, detached, for logging.

    rotation: this player's weight of the rotation term, alpha or beta.
    """
    taught = ("words", "stops", "words_of_labels", "stops_of_labels")
    weight = {
        "image": loss.image, "report": loss.report, "joint": loss.joint, "rotation": rotation, "real_sign": 0.0,
        "gradient_penalty": loss.gradient_penalty,
        "labels": loss.labels, "image_labels": loss.image_labels,
        "conditions": loss.labels, "image_conditions": loss.image_labels, **dict.fromkeys(taught, loss.teacher_forcing),
    }  # fmt: skip
    total = torch.stack([weight[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def require_a_term(loss: LossConfig, critics: tuple[str, ...], generators: tuple[str, ...]) -> None:
    """Raise ConfigError if all `loss.<name>` of one player are 0, or if adaptive augmentation has nothing to follow."""
    if loss.augment_target is not None and (not loss.augment or loss.image == 0):
        raise ConfigError(
            "loss.augment_target follows D_image's logits on real images: it needs loss.augment and a loss.image above "
            "0. Set both, or set it to null."
        )
    for names, player in (
        (critics, "no critic has anything to learn"),
        (generators, "no generator has anything to learn"),
    ):
        if all(getattr(loss, name) == 0 for name in names):
            settings = ", ".join(f"loss.{name}" for name in names)
            raise ConfigError(f"{settings}: all are 0, so that {player}. Set at least one of them above 0.")


def teacher_forcing(
    decoder: ReportDecoder, real: Batch, weights: RowWeights, loss: LossConfig, noise: RowNoise
) -> Terms:
    """Return the terms "words" and "stops" of real reports given what F reads of their rows, and "labels" and
    "conditions" of real images given what F's encoder sees. A weight of 0 leaves a term out."""
    if loss.teacher_forcing == 0 and loss.labels == 0:
        return {}
    image_BPV = decoder.places(real.image_BCHW)
    terms: Terms = {}
    if loss.teacher_forcing > 0:
        condition = decoder.condition(image_BPV, real.labels_BY, real.labelled_B)
        terms |= teacher_forcing_terms(decoder.writer, condition, real, weights, loss, noise)
    if loss.labels > 0:
        each_BL = _label_cross_entropy(decoder.label_logits(image_BPV), real.labels_BY)
        terms["labels"] = each_BL.mean(dim=1).where(real.labelled_B, 0.0).sum() * weights.labelled_row
        terms |= conditions_term("conditions", decoder.condition_logits(image_BPV), real.labels_BY, weights)
    return terms


def image_labels_term(logits_BL: Tensor, labels_BY: Tensor, weights: RowWeights) -> Tensor:
    """Return the term "image_labels": whether F's encoder recognizes the labels in images generated from them."""
    return _label_cross_entropy(logits_BL, labels_BY).mean(dim=1).sum() * weights.row


def conditions_term(name: str, logits: Sequence[Tensor], labels_BY: Tensor, weights: RowWeights) -> Terms:
    """Return the term of that name, if there are conditions: -log p of each known one, mean over conditions. An unknown
    one has no column that is 1, and adds nothing."""
    if not logits:
        return {}
    sizes = [logits_BK.shape[1] for logits_BK in logits]
    columns = labels_BY[:, -sum(sizes) :].split(sizes, dim=1)
    nats = [-(one * functional.log_softmax(each, dim=1)).sum() for one, each in zip(columns, logits, strict=True)]
    return {name: torch.stack(nats).mean() * weights.row}


def teacher_forcing_terms(
    writer: ReportWriter, condition: WriterInput, real: Batch, weights: RowWeights, loss: LossConfig, noise: RowNoise
) -> Terms:
    """Return the terms "words" and "stops": -log p of the real reports given features of any origin and the words
    before, except those that `loss.word_dropout` hides."""
    nats = writer.nats(condition, real.with_hidden_words(loss.word_dropout, noise))
    return {"words": nats.words * weights.word, "stops": nats.stops * writer.stop_weight(weights)}


def _label_cross_entropy(logits_BL: Tensor, labels_BY: Tensor) -> Tensor:
    """Return (B, L), over labels alone, without the conditions after them."""
    labels_BL = labels_BY[:, : logits_BL.shape[1]]
    return functional.binary_cross_entropy_with_logits(logits_BL, labels_BL, reduction="none")


def with_channels(real: Batch, channels: int) -> Batch:
    """Repeat gray images (as a view) to the model's channels."""
    return replace(real, image_BCHW=real.image_BCHW.expand(-1, channels, -1, -1))


def padded_like(words_BSW: Tensor, valid_BSW: Tensor) -> Tensor:
    """Pad real words to the shape of the generated ones, so that one pass takes both."""
    sentences = valid_BSW.shape[1] - words_BSW.shape[1]
    words = valid_BSW.shape[2] - words_BSW.shape[2]
    return functional.pad(words_BSW, (0, words, 0, sentences), value=PAD)
