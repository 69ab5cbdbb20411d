"""What the report decoder should have said: targets of its words and stop decisions, and how far off it was.

Shapes: B films, S sentences, W words of a sentence, K vocabulary.
Source: EMIXER §3.2.2. Departures: docs/deviations.md#teacher-forcing.
"""

import torch
from torch import Tensor
from torch.nn import functional

from emixer.models.paired_model import PAD, Batch

_NO_TARGET = -100


def word_cross_entropy(logits_BSWK: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Sum over the words of the batch's reports (END included) of -log p [nats], and their number."""
    target_BSW = batch.words_BSW.masked_fill(~batch.has_report_B[:, None, None], PAD)
    return summed_cross_entropy(logits_BSWK, target_BSW), (target_BSW != PAD).sum()


def summed_cross_entropy(logits_BSWK: Tensor, words_BSW: Tensor) -> Tensor:
    """Sum of -log p [nats] over all words but PAD, a scalar."""
    logits = logits_BSWK.float().flatten(0, 2)
    return functional.cross_entropy(logits, words_BSW.flatten(), ignore_index=PAD, reduction="sum")


def stop_cross_entropy(stop_logits_BS2: Tensor, batch: Batch) -> Tensor:
    """Sum over the sentences of the batch's reports of -log p [nats] of CONTINUE, or of STOP at a report's last."""
    has_sentence_BS = (batch.words_BSW[:, :, 0] != PAD) & batch.has_report_B[:, None]
    has_next_BS = functional.pad(has_sentence_BS[:, 1:], (0, 1))
    target_BS = torch.where(has_sentence_BS, (~has_next_BS).long(), _NO_TARGET)  # CONTINUE is 0, STOP is 1
    return functional.cross_entropy(
        stop_logits_BS2.flatten(0, 1), target_BS.flatten(), ignore_index=_NO_TARGET, reduction="sum"
    )
