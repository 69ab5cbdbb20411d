"""Sum gradients over workers, for any set of networks.

DDP wraps one network with one forward and one backward pass; a GAN step runs several networks several times and needs
the gradients of only some of them. So the gradients are summed here, after the backward pass, in buckets that are all
in flight at once. Losses are weighted by global counts (`RowWeights`), so a sum suffices.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from emixer.models.workers import world_size

_BUCKET_BYTES = 32 * 2**20


def sum_over_workers(tensor: Tensor) -> Tensor:
    """Sum `tensor` in place over all workers and return it."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its sum over workers. A missing gradient (of a term switched off) is missing on every
    worker by construction, and stays missing."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    pending = []
    for bucket in _buckets(gradients):
        flat = torch.cat([g.reshape(-1) for g in bucket])
        pending.append((dist.all_reduce(flat, async_op=True), flat, bucket))
    for work, flat, bucket in pending:
        work.wait()
        for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
        if size >= _BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket
