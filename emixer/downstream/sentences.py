"""Sentences of a batch in groups of like length: an LSTM that reads all of them side by side would spend most of its
time on padding. Made on the CPU, before words travel, so that nothing waits for a device.

Shapes: B pairs of a batch, S sentences, W words of a sentence, M sentences of a group.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emixer.data.vocabulary import PAD
from emixer.training.step import moved

_GROUPS = 4
"""Of a batch. Each costs the steps of its longest sentence; more of them leave an LSTM too few rows a step."""


@dataclass(frozen=True)
class SentenceGroup:
    """Sentences about as long as each other."""

    place_M: Tensor
    """int64: of each among the B * S of the batch."""
    words_MW: Tensor
    """int64 token ids, as wide as the longest of them."""


def sentence_groups(words_BSW: NDArray[np.int32], device: torch.device) -> tuple[SentenceGroup, ...]:
    """All sentences that have a word, each once, on the device; the shortest first."""
    words_NW = words_BSW.reshape(-1, words_BSW.shape[2])
    length_N = (words_NW != PAD).sum(1)
    order = np.argsort(length_N, kind="stable")[(length_N == 0).sum() :]
    return tuple(
        SentenceGroup(moved(place, device), moved(words_NW[place, : length_N[place[-1]]], device).long())
        for place in np.array_split(order, min(_GROUPS, len(order)) or 1)
        if len(place)
    )
