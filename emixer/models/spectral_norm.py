"""Spectral normalization whose power iteration advances on request, not whenever a weight is read.

torch's own parametrization iterates on every access in training mode. A GAN step reads each weight several times
(micro-batches, fakes for two players), so the weights would change between two reads within a step, accumulation would
change the mathematics, and a compiled forward pass would mutate buffers. Here a read is a pure function of weight and
buffers; `advance_power_iterations` updates the buffers once per step (`PairedModel.begin_step`), those of all layers
together: a model has dozens, most of them so small that one by one, calls would cost more than arithmetic.

Shapes: O outputs, I inputs of the weight seen as a matrix.
Source: EMIXER §6.3.2 ("spectral normalization for the layers in the generator and discriminator"); Miyato et al. 2018.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils import parametrize

from emixer.models.full_precision import full_precision

_FIRST_ITERATIONS = 15
"""Power iterations on the initial weight, so that training starts from a good estimate."""
_SMALLEST_NORM = 1e-12

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
        for _ in range(_FIRST_ITERATIONS):
            _advance([(self, weight)])

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with largest singular value 1, in the weight's own precision under any autocast dtype."""
        with full_precision(weight.device):
            normalized: Tensor = _Normalized.apply(weight, self.left_O, self.right_I)
        return normalized


class _Normalized(torch.autograd.Function):
    """weight / sigma with sigma = left' weight right, and its gradient in a few passes over a weight that may have many
    megabytes; autograd takes twice as many for the same formula, and dozens of small calls."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, left_O: Tensor, right_I: Tensor) -> Tensor:
        sigma = torch.dot(left_O, torch.mv(_matrix(weight), _as_in_memory(right_I, weight)))
        if ctx.needs_input_grad[0]:
            # The next step of the power iteration may come before the backward pass
            ctx.save_for_backward(weight, left_O.clone(), right_I.clone(), sigma)
        return weight / sigma

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weight, left_O, right_I, sigma = ctx.saved_tensors
        gradient_OI = _matrix(
            gradient.contiguous(
                memory_format=torch.channels_last if _is_channels_last(weight) else torch.contiguous_format
            )
        )
        of_sigma = torch.dot(gradient_OI.flatten(), _matrix(weight).flatten()) / sigma.square()
        to_weight_OI = gradient_OI / sigma
        to_weight_OI.addr_(left_O * of_sigma, _as_in_memory(right_I, weight), alpha=-1)
        return _as_weight(to_weight_OI, weight), None, None


def spectrally_normalized(layer: Layer, enabled: bool = True) -> Layer:
    """Return `layer` with Xavier weights, zero bias and, if enabled, a spectrally normalized weight."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if enabled:
        parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return layer


def advance_power_iterations(module: nn.Module) -> None:
    """Run one power iteration for every spectrally normalized weight in `module`."""
    parts = [part for part in module.modules() if isinstance(part, parametrize.ParametrizationList)]
    _advance([(part[0], part.original) for part in parts if isinstance(part[0], SpectralNorm)])


@torch.no_grad()
def _advance(norms: Sequence[tuple[SpectralNorm, Tensor]]) -> None:
    """Move the singular vectors of each norm towards those of its weight."""
    if not norms:
        return
    with full_precision(norms[0][1].device):
        matrices = [_matrix(weight) for _, weight in norms]
        rights = [_as_in_memory(norm.right_I, weight) for norm, weight in norms]
        lefts = _normalized([torch.mv(matrix, right) for matrix, right in zip(matrices, rights, strict=True)])
        rights = _normalized([torch.mv(matrix.t(), left) for matrix, left in zip(matrices, lefts, strict=True)])
        for (norm, weight), left, right in zip(norms, lefts, rights, strict=True):
            norm.left_O.copy_(left)
            norm.right_I.copy_(_as_weight(right[None], weight[:1]).flatten())


def _normalized(vectors: list[Tensor]) -> list[Tensor]:
    norms = torch._foreach_norm(vectors)
    torch._foreach_clamp_min_(norms, _SMALLEST_NORM)
    torch._foreach_div_(vectors, norms)
    return vectors


# Convolutions are channels-last in training: as matrices (O, C * H * W) they would be copied on every access. Their
# inputs are taken in memory order instead; the vectors, which are small, keep the usual order.


def _is_channels_last(weight: Tensor) -> bool:
    return not weight.is_contiguous()


def _matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1).flatten(1) if _is_channels_last(weight) else weight.flatten(1)


def _as_weight(matrix_OI: Tensor, weight: Tensor) -> Tensor:
    """Inverse of `_matrix`: in the shape and memory order of `weight`."""
    if not _is_channels_last(weight):
        return matrix_OI.view(weight.shape)
    num_out, channels, height, width = weight.shape
    return matrix_OI.view(num_out, height, width, channels).permute(0, 3, 1, 2)


def _as_in_memory(right_I: Tensor, weight: Tensor) -> Tensor:
    """Return right_I in the order of the columns of `_matrix`."""
    return right_I.view(weight.shape[1:]).permute(1, 2, 0).flatten() if _is_channels_last(weight) else right_I
