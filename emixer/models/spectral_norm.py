"""Spectral normalization whose power iteration moves when it is told to, not whenever a weight is read.

torch's own parametrization iterates on every access in training mode. A GAN step reads each weight several times (micro
batches, fakes for two players), so the weights would change between two readings within a step, accumulation would
change the mathematics, and a compiled forward pass would mutate buffers. Here a reading is a pure function of weight
and buffers; `advance_power_iterations` moves the buffers once a step (`PairedModel.begin_step`).

Shapes: O outputs, I inputs of the weight seen as a matrix.
Source: EMIXER §6.3.2 ("spectral normalization for the layers in the generator and discriminator"); Miyato et al. 2018.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

_FIRST_ITERATIONS = 15
"""Power iterations on the initial weight, so that training starts from a good estimate."""

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class SpectralNorm(nn.Module):
    """Divides a weight by an estimate of its largest singular value; gradients flow through the estimate."""

    left_O: Tensor
    right_I: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix_OI = weight.detach().flatten(1)
        self.register_buffer("left_O", functional.normalize(torch.randn(matrix_OI.shape[0]), dim=0))
        self.register_buffer("right_I", functional.normalize(torch.randn(matrix_OI.shape[1]), dim=0))
        self.advance(weight, _FIRST_ITERATIONS)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with largest singular value 1, in the weight's own precision under any autocast dtype."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight / torch.dot(self.left_O, weight.flatten(1) @ self.right_I)

    @torch.no_grad()
    def advance(self, weight: Tensor, num_iterations: int = 1) -> None:
        """Moves the singular vectors towards those of `weight`."""
        matrix_OI = weight.flatten(1)
        with torch.autocast(weight.device.type, enabled=False):
            for _ in range(num_iterations):
                functional.normalize(matrix_OI @ self.right_I, dim=0, out=self.left_O)
                functional.normalize(self.left_O @ matrix_OI, dim=0, out=self.right_I)


def spectrally_normalized(layer: Layer, enabled: bool = True) -> Layer:
    """`layer` with Xavier weights, zero bias and, if enabled, a spectrally normalized weight."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if enabled:
        parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return layer


def advance_power_iterations(module: nn.Module) -> None:
    """One power iteration for every spectrally normalized weight in `module`."""
    for part in module.modules():
        if isinstance(part, parametrize.ParametrizationList) and isinstance(part[0], SpectralNorm):
            part[0].advance(part.original)
