"""Loss terms by name: what is the same in every game.

Shapes: B rows, V features, S sentences, W words of a sentence, K vocabulary.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.models.paired_model import PAD, Batch, RowWeights
from emixer.models.report_decoder import ReportDecoder, ReportWriter
from emixer.models.word_targets import stop_cross_entropy, word_cross_entropy

Terms = dict[str, Tensor]


def weighted_total(terms: Terms, loss: LossConfig, rotation: float) -> tuple[Tensor, Terms]:
    """The sum of the terms times their weights, and the terms themselves, detached, for logging.

    rotation: this player's weight of the rotation term, alpha or beta.
    """
    taught = ("words", "stops", "words_of_labels", "stops_of_labels")
    weight = {
        "image": loss.image, "report": loss.report, "joint": loss.joint, "rotation": rotation, "real_sign": 0.0,
        **dict.fromkeys(taught, loss.teacher_forcing),
    }  # fmt: skip
    total = torch.stack([weight[name] * term for name, term in terms.items()]).sum()
    return total, {name: term.detach() for name, term in terms.items()}


def require_a_term(loss: LossConfig, critics: tuple[str, ...], generators: tuple[str, ...]) -> None:
    """Raises ConfigError when all `loss.<name>` of one player are 0, or when what augmentation follows is."""
    if loss.augment_target is not None and (not loss.augment or loss.image == 0):
        raise ConfigError(
            "loss.augment_target follows D_image's logits of real films: it needs loss.augment, which says what is "
            "changed, and a loss.image above 0. Set both, or leave it null."
        )
    for names, player in (
        (critics, "no critic has anything to learn"),
        (generators, "no generator has anything to learn"),
    ):
        if all(getattr(loss, name) == 0 for name in names):
            settings = ", ".join(f"loss.{name}" for name in names)
            raise ConfigError(f"{settings}: all are 0, so that {player}. Give at least one of them a positive weight.")


def teacher_forcing(decoder: ReportDecoder, real: Batch, weights: RowWeights) -> Terms:
    """The terms "words" and "stops" of real reports given their films."""
    return taught_by(decoder, decoder.encoder(real.image_BCHW), real, weights)


def taught_by(writer: ReportWriter, features_BV: Tensor, real: Batch, weights: RowWeights) -> Terms:
    """The terms "words" and "stops": -log p of the real reports given features of any origin."""
    plan = writer.plan(features_BV, real.words_BSW.shape[1])
    words_total, _ = word_cross_entropy(writer.teacher_forced(plan.topics_BSE, real.words_BSW), real)
    stops_total = stop_cross_entropy(plan.stop_logits_BS2, real)
    return {"words": words_total * weights.word, "stops": stops_total * weights.stop}


def with_channels(real: Batch, channels: int) -> Batch:
    """Gray films repeated (as a view) to the model's channels."""
    return replace(real, image_BCHW=real.image_BCHW.expand(-1, channels, -1, -1))


def padded_like(words_BSW: Tensor, valid_BSW: Tensor) -> Tensor:
    """Real words padded to the shape of the generated ones, so that one pass takes both."""
    sentences = valid_BSW.shape[1] - words_BSW.shape[1]
    words = valid_BSW.shape[2] - words_BSW.shape[2]
    return functional.pad(words_BSW, (0, words, 0, sentences), value=PAD)
