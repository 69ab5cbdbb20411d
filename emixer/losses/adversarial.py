"""Adversarial losses, as pure functions of the critics' logits. Each returns one value per row.

Shapes: B rows.
Source: EMIXER §3.2.3, §6.1; Goodfellow et al. 2014 (logistic, non-saturating); Lim & Ye 2017 (hinge).
Departures: docs/deviations.md#value-function.
"""

from typing import Protocol

from torch import Tensor
from torch.nn import functional


class AdversarialLoss(Protocol):
    """Losses of a critic on real and on fake rows, and of a generator on its fakes."""

    def real(self, logit_B: Tensor) -> Tensor:
        """Return the critic's loss on real rows."""
        ...

    def fake(self, logit_B: Tensor) -> Tensor:
        """Return the critic's loss on fake rows."""
        ...

    def generator(self, logit_B: Tensor) -> Tensor:
        """Return the generator's loss on its own rows."""
        ...


class Logistic:
    """-log D on real, -log(1 - D) on fake; the generator minimises -log D, which has a gradient while it loses."""

    def real(self, logit_B: Tensor) -> Tensor:
        """softplus(-logit) = -log sigmoid(logit)."""
        return functional.softplus(-logit_B)

    def fake(self, logit_B: Tensor) -> Tensor:
        """softplus(logit) = -log(1 - sigmoid(logit))."""
        return functional.softplus(logit_B)

    def generator(self, logit_B: Tensor) -> Tensor:
        """softplus(-logit)."""
        return functional.softplus(-logit_B)


class Hinge:
    """max(0, 1 - logit) on real, max(0, 1 + logit) on fake; the generator minimises -logit."""

    def real(self, logit_B: Tensor) -> Tensor:
        """max(0, 1 - logit)."""
        return functional.relu(1 - logit_B)

    def fake(self, logit_B: Tensor) -> Tensor:
        """max(0, 1 + logit)."""
        return functional.relu(1 + logit_B)

    def generator(self, logit_B: Tensor) -> Tensor:
        """-logit."""
        return -logit_B


def adversarial_loss(kind: str) -> AdversarialLoss:
    """Return the loss that `loss.adversarial` names."""
    return Hinge() if kind == "hinge" else Logistic()
