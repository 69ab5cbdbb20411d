"""Batch normalization over all workers, plain and conditional.

torch's SyncBatchNorm runs on GPUs only and cannot be conditional. Here (sum, sum of squares, count) of each channel are
summed over the workers in one small differentiable reduction, so two workers with half the batch compute what one
computes with the whole, on gloo as on NCCL.

Shapes: B images, C channels, H = W side [px], E condition.
Source: EMIXER table 7 (condBN); de Vries et al. 2017.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from emixer.models.workers import world_size

_MOMENTUM = 0.1
_EPS = 1e-5
_CONDITION_STD = 0.05
"""Initial spread of the conditional gains and biases per unit of condition: a few tenths with the paper's sizes."""


class _SumOverWorkers(torch.autograd.Function):
    """All-reduce by sum; the gradient of a sum over workers is the sum of the workers' gradients."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d, parameter names included, whose statistics span all workers while `synchronized`.

    Statistics are float32 under any autocast dtype. In eval mode the running statistics are used.
    """

    synchronized: bool = True

    def forward(self, h_BCHW: Tensor) -> Tensor:
        """Normalize each channel, then scale and shift it if the layer is affine."""
        if not self.training:
            return self._by_running_statistics(h_BCHW)
        if not (self.synchronized and world_size() > 1):
            # The batch count that nn.BatchNorm2d keeps is not needed: momentum is fixed
            return functional.batch_norm(
                h_BCHW, self.running_mean, self.running_var, self.weight, self.bias, True, _MOMENTUM, _EPS
            )
        float_BCHW = h_BCHW.float()
        assert self.running_mean is not None
        mean_C, var_C, count = _moments_over_workers(float_BCHW, self.running_mean)
        self._update_running(mean_C.detach(), var_C.detach() * (count / (count - 1)))
        scale_C = torch.rsqrt(var_C + _EPS) * (1.0 if self.weight is None else self.weight)
        shift_C = -mean_C * scale_C + (0.0 if self.bias is None else self.bias)
        return torch.addcmul(_per_channel(shift_C), float_BCHW, _per_channel(scale_C)).to(h_BCHW.dtype)

    def _by_running_statistics(self, h_BCHW: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        mean_C, var_C = self.running_mean, self.running_var
        if torch.is_grad_enabled():
            # The backward pass needs the current statistics; a forward pass in training mode may update them before it
            mean_C, var_C = mean_C.clone(), var_C.clone()
        return functional.batch_norm(h_BCHW, mean_C, var_C, self.weight, self.bias, False, _MOMENTUM, _EPS)

    @torch.no_grad()
    def _update_running(self, mean_C: Tensor, var_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean_C, _MOMENTUM)
        self.running_var.lerp_(var_C, _MOMENTUM)


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalization whose gain and bias are a linear function of a condition.

    That linear map is not spectrally normalized: docs/deviations.md#spectral-norm.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels, affine=False)
        self.gain_and_bias = nn.Linear(condition, 2 * channels)
        nn.init.normal_(self.gain_and_bias.weight, std=_CONDITION_STD)
        nn.init.zeros_(self.gain_and_bias.bias)

    def forward(self, h_BCHW: Tensor, condition_BE: Tensor) -> Tensor:
        """Return a tensor of the shape and dtype of `h_BCHW`."""
        gain_BC, bias_BC = self.gain_and_bias(condition_BE).to(h_BCHW.dtype).chunk(2, dim=1)
        return torch.addcmul(bias_BC[:, :, None, None], self.norm(h_BCHW), 1 + gain_BC[:, :, None, None])


def set_synchronized(module: nn.Module, synchronized: bool) -> None:
    """Set whether batch-norm statistics of `module` span all workers (the default) or each worker's own rows."""
    for part in module.modules():
        if isinstance(part, BatchNorm2d):
            part.synchronized = synchronized


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Make `module` normalize by its running statistics, without updating them, within the block. Afterwards each part
    is back in its own mode."""
    in_training = [part for part in module.modules() if part.training]
    for part in in_training:
        part.training = False
    try:
        yield
    finally:
        for part in in_training:
            part.training = True


def _moments_over_workers(h_BCHW: Tensor, around_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and number of values of each channel.

    around_C: something near the mean, the same on all workers. In squares of values that are far from it for their
    spread, the variance would be lost to rounding.
    """
    channels = h_BCHW.shape[1]
    centred_BCHW = h_BCHW - _per_channel(around_C)
    count = h_BCHW.new_full((1,), h_BCHW.numel() // channels)
    local = torch.cat([centred_BCHW.sum(dim=(0, 2, 3)), centred_BCHW.square().sum(dim=(0, 2, 3)), count])
    total_C, total_square_C, total = _SumOverWorkers.apply(local).split([channels, channels, 1])
    offset_C = total_C / total
    return around_C + offset_C, (total_square_C / total - offset_C.square()).clamp(min=0), total


def _per_channel(x_C: Tensor) -> Tensor:
    return x_C[None, :, None, None]
