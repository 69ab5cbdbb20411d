"""How networks take what pairs are conditioned on: labels, which a row may lack, and columns of conditions behind them.

Shapes: B rows, L labels, Y labels and columns of conditions, E embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def known_columns(labels_BY: Tensor, labelled_B: Tensor, num_labels: int) -> Tensor:
    """`labels_BY` with 0 for the labels of rows that are not labelled, which leaves them out of a layer without bias.
    Conditions that are not known are 0 already."""
    is_condition_Y = torch.arange(labels_BY.shape[1], device=labels_BY.device) >= num_labels
    return labels_BY.where(labelled_B[:, None] | is_condition_Y, 0.0)


class LabelEmbedding(nn.Linear):
    """Labels and conditions -> one vector each row, the sum of what each says. What is not known adds nothing."""

    def __init__(self, num_labels: int, num_conditions: int, size: int, bias: bool = True) -> None:
        super().__init__(num_labels, size, bias=bias)
        self.of_conditions = nn.Linear(num_conditions, size, bias=False) if num_conditions else None

    def forward(self, labels_BY: Tensor, labelled_B: Tensor | None = None) -> Tensor:
        """(B, E). labelled: which rows' labels are known; None: all."""
        embedded_BE = functional.linear(labels_BY[..., : self.in_features], self.weight, self.bias)
        if labelled_B is not None:
            embedded_BE = embedded_BE.where(labelled_B[:, None], 0.0)
        if self.of_conditions is None:
            return embedded_BE
        of_conditions_BE: Tensor = self.of_conditions(labels_BY[..., self.in_features :])
        return embedded_BE + of_conditions_BE
