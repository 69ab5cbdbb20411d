"""One step of a game's two players, for any model.

Shapes: B rows of a batch, Y = 3 labels.
"""

import torch
from torch import Tensor, nn

from emixer.models.frozen import frozen
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, Objective, PairedModel
from emixer.training.step import row_weights


def noise(num_rows: int, first_row: int = 0) -> RowNoise:
    """Noise of some rows of a step, the same at each call."""
    return RowNoise(seed=3, step=1, first_row=first_row, num_rows=num_rows, device=torch.device("cpu"))


def fake_labels(num_rows: int) -> Tensor:
    """Labels (B, Y) that generated pairs are drawn for."""
    return (torch.arange(num_rows)[:, None] % torch.tensor([2, 3, 5]) == 0).float()


def generator_side(model: PairedModel) -> list[nn.Parameter]:
    """Trainable parameters of all generators."""
    return [parameter for group in model.generator_parameters().values() for parameter in group]


def critics_loss(game: Objective, model: PairedModel, real: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and terms of the critics, whose gradients are then in their parameters."""
    with frozen(generator_side(model)):
        loss, terms = game.discriminator_loss(model, real, fake_labels(len(real)), noise(len(real)), row_weights(real))
        loss.backward()
    return loss, terms


def generators_loss(game: Objective, model: PairedModel, real: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and terms of the generators, whose gradients are then in their parameters."""
    with frozen(model.discriminator_parameters()):
        loss, terms = game.generator_loss(model, real, fake_labels(len(real)), noise(len(real)), row_weights(real))
        loss.backward()
    return loss, terms


def unreached(parameters: list[nn.Parameter], model: PairedModel) -> list[str]:
    """Names of those parameters that have no gradient, or one of 0."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(p)] for p in parameters if p.grad is None or not p.grad.abs().max() > 0]
