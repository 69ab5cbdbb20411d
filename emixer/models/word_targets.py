"""Where the hierarchical writer should have stopped, and how far off it was.

Shapes: B films, S sentences.
Source: EMIXER §3.2.2. Departures: docs/deviations.md#teacher-forcing.
"""

import torch
from torch import Tensor
from torch.nn import functional

from emixer.models.paired_model import PAD, Batch

_NO_TARGET = -100


def stop_cross_entropy(stop_logits_BS2: Tensor, batch: Batch) -> Tensor:
    """Sum over the sentences of the batch's reports of -log p [nats] of CONTINUE, or of STOP at a report's last."""
    has_sentence_BS = (batch.words_BSW[:, :, 0] != PAD) & batch.has_report_B[:, None]
    has_next_BS = functional.pad(has_sentence_BS[:, 1:], (0, 1))
    target_BS = torch.where(has_sentence_BS, (~has_next_BS).long(), _NO_TARGET)  # CONTINUE is 0, STOP is 1
    return functional.cross_entropy(
        stop_logits_BS2.flatten(0, 1), target_BS.flatten(), ignore_index=_NO_TARGET, reduction="sum"
    )
