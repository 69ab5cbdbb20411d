"""How networks read what pairs are conditioned on: labels, which a row may lack, then columns of conditions.

Shapes: B rows, L labels, Y labels and columns of conditions, E embedding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def known_columns(labels_BY: Tensor, labelled_B: Tensor, num_labels: int) -> Tensor:
    """Return `labels_BY` with 0 for the labels of unlabelled rows, which drops them from a layer without bias. Unknown
    conditions are 0 already."""
    is_condition_Y = torch.arange(labels_BY.shape[1], device=labels_BY.device) >= num_labels
    return labels_BY.where(labelled_B[:, None] | is_condition_Y, 0.0)


def known_to_both(one_BY: Tensor, other_BY: Tensor, condition_sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return both with 0 for the conditions that either row lacks. condition_sizes: columns of each, after the labels.

    For what critics are told of the real and the generated image of a row: else whether a condition is known would tell
    them which is which, as images may lack what every draw has.
    """
    if not condition_sizes:
        return one_BY, other_BY
    num = sum(condition_sizes)
    ones = zip(*(each_BY[:, -num:].split(list(condition_sizes), dim=1) for each_BY in (one_BY, other_BY)), strict=True)
    known_BC = torch.cat([
        (one.sum(dim=1, keepdim=True) * other.sum(dim=1, keepdim=True)).expand_as(one) for one, other in ones
    ], dim=1)  # fmt: skip
    one_BY, other_BY = (
        torch.cat([each_BY[:, :-num], each_BY[:, -num:] * known_BC], dim=1) for each_BY in (one_BY, other_BY)
    )
    return one_BY, other_BY


class LabelEmbedding(nn.Linear):
    """Labels and conditions -> one vector per row, the sum of their embeddings. Unknown ones add nothing."""

    def __init__(self, num_labels: int, num_conditions: int, size: int, bias: bool = True) -> None:
        super().__init__(num_labels, size, bias=bias)
        self.of_conditions = nn.Linear(num_conditions, size, bias=False) if num_conditions else None

    def forward(self, labels_BY: Tensor, labelled_B: Tensor | None = None) -> Tensor:
        """Return (B, E). labelled_B: which rows' labels are known; None: all."""
        embedded_BE = functional.linear(labels_BY[..., : self.in_features], self.weight, self.bias)
        if labelled_B is not None:
            embedded_BE = embedded_BE.where(labelled_B[:, None], 0.0)
        if self.of_conditions is None:
            return embedded_BE
        of_conditions_BE: Tensor = self.of_conditions(labels_BY[..., self.in_features :])
        return embedded_BE + of_conditions_BE
