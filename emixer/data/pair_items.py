"""Pairs as torch's loaders pass them: one by one, or as a batch that nobody has copied.

An item is a dictionary that torch's own collate function understands: `image` uint8 (1, H, W), `report` text (empty
where there is none), `labels` float32 (L), 1 present, and `known` bool (L): which of them say anything.

Shapes: N pairs, H = W side [px], L labels.
"""

from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emixer.data.row_groups import PairArrays


class PairItem(TypedDict):
    """One pair, or, with another dimension in front and a list of reports, a batch of them."""

    image: Tensor
    report: Any
    labels: Tensor
    known: Tensor


def batch_of(pairs: PairArrays) -> PairItem:
    """All of them as one batch, without a copy."""
    image_N1HW = torch.from_numpy(pairs.image_NHW).unsqueeze(1)
    labels, known = torch.from_numpy(pairs.labels_NL), torch.from_numpy(pairs.known_NL)
    return PairItem(image=image_N1HW, report=pairs.reports, labels=labels, known=known)


def items_of(pairs: PairArrays) -> list[PairItem]:
    """One by one, as views of the batch: torch's collate function takes no batch that is made already."""
    whole = batch_of(pairs)
    columns = zip(whole["image"], pairs.reports, whole["labels"], whole["known"], strict=True)
    return [PairItem(image=i, report=r, labels=y, known=k) for i, r, y, k in columns]


class PairDataset(Dataset[PairItem]):
    """Pairs in memory."""

    def __init__(self, pairs: PairArrays) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairItem:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: list[int]) -> list[PairItem]:
        """What torch's loader calls for a whole batch."""
        return items_of(self._pairs.take(np.array(indices, np.int64)))
