"""Words as critics and decoder see them: embeddings of ids, or of a distribution through which gradients pass.

Shapes: B images, S sentences, W words of a sentence, T = S * W, N rows, V vocabulary, E embedding, H state.
Source: EMIXER §3.2.3 (LSTM over the report); Jang et al. 2017 (straight-through Gumbel-softmax).
Departures: docs/deviations.md#words.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from emixer.models.host_reads import free_to_read
from emixer.models.paired_model import PAD
from emixer.models.recurrent import Lstm


class _StraightThrough(torch.autograd.Function):
    """Forward: the row of the table at the id. Backward: as if it had been `probability @ table`.

    So only the backward pass costs a matrix product, and no one-hot tensor is ever created.
    """

    @staticmethod
    def forward(ctx: Any, probability_NV: Tensor, id_N: Tensor, table_VE: Tensor) -> Tensor:
        ctx.save_for_backward(id_N, table_VE)
        return functional.embedding(id_N, table_VE)

    @staticmethod
    def backward(ctx: Any, gradient_NE: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        id_N, table_VE = ctx.saved_tensors
        to_probability = gradient_NE @ table_VE.t() if ctx.needs_input_grad[0] else None
        to_table = None
        if ctx.needs_input_grad[2]:
            to_table = torch.zeros_like(table_VE).index_add_(0, id_N, gradient_NE)
        return to_probability, None, to_table


def embedded(probability_NV: Tensor, id_N: Tensor, table_VE: Tensor, straight_through: bool) -> Tensor:
    """Return embeddings (N, E) of relaxed words: hard forward and soft backward, or soft both ways."""
    if not straight_through:
        return probability_NV @ table_VE
    result_NE: Tensor = _StraightThrough.apply(probability_NV, id_N, table_VE)
    return result_NE


def in_one_sequence(words_BSW: Tensor, num_words: int | None) -> tuple[Tensor, Tensor]:
    """Concatenate the words of all sentences, END included: (B, T), then PAD, and which of the S * W slots each comes
    from, int64 (B, T). T: `num_words`, if the host knows that no report has more."""
    words_BN = words_BSW.flatten(1)
    is_word_BN = words_BN != PAD
    # A stable sort moves the words of all sentences together, in order, without reading the lengths
    slot_BN = torch.argsort(is_word_BN.byte(), dim=1, descending=True, stable=True)
    if num_words is None and free_to_read(words_BN):
        num_words = int(is_word_BN.sum(dim=1).max())
    slot_BT = slot_BN[:, :num_words]
    return words_BN.gather(1, slot_BT), slot_BT


class ReportReader(nn.Module):
    """Reads a report as one word sequence: embedding, then an LSTM, whose state after the last word is the result."""

    def __init__(self, num_words: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, embedding, padding_idx=PAD)
        self.lstm = Lstm(embedding, hidden)

    def embed(self, words_BSW: Tensor) -> Tensor:
        """Return embeddings (B, S, W, E) of token ids."""
        embedded_BSWE: Tensor = self.embedding(words_BSW)
        return embedded_BSWE

    def forward(self, embedded_BSWE: Tensor, valid_BSW: Tensor) -> Tensor:
        """Return the state (B, H), float32, after the last valid word; without any word, after one padding."""
        invalid_BT = ~valid_BSW.flatten(1)
        length_B = (~invalid_BT).sum(dim=1)
        # A stable sort moves the words of all sentences together, in order, without reading the lengths
        order_BT = torch.argsort(invalid_BT.byte(), dim=1, stable=True)
        if free_to_read(order_BT):  # saves steps that no report needs
            order_BT = order_BT[:, : max(int(length_B.max()), 1)]
        first_slot_B1 = torch.arange(len(order_BT), device=order_BT.device)[:, None] * invalid_BT.shape[1]
        slot_N = (first_slot_B1 + order_BT).flatten()
        read_BTE = embedded_BSWE.flatten(0, 2).index_select(0, slot_N).unflatten(0, order_BT.shape)
        states_BTH, _ = self.lstm(read_BTE)
        last_B = (length_B - 1).clamp(min=0)
        last_state_BH: Tensor = states_BTH[torch.arange(len(last_B), device=last_B.device), last_B]
        return last_state_BH
