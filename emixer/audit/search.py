"""Nearest images by exhaustive search: blockwise products, of which only the best are kept.

Memory depends only on the block sizes, not on the number of images on either side.

Shapes: Q queries of a block, C references of a chunk, V variants of a query, D numbers, K candidates, G groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_NEVER = -torch.inf


@dataclass(frozen=True)
class Chunk:
    """A chunk of the references."""

    first: int
    """Index of its first among all references."""
    vectors_CD: Tensor
    owner_C: Tensor | None = None
    """Owner of each: a query is not compared with references of its own owner."""
    group_C: Tensor | None = None
    """Group number of each, -1 for none."""


@dataclass(frozen=True)
class Best:
    """For each query: the highest products, their places, and the highest product within each group."""

    product_QK: Tensor
    place_QK: Tensor
    group_product_QG: Tensor
    """-inf if a group has no reference for the query."""


@torch.no_grad()
def best_products(
    query_VQD: Tensor, chunks: Iterator[Chunk], num_best: int, num_groups: int = 0, owner_Q: Tensor | None = None
) -> Best:
    """The `num_best` references with the highest inner product with any variant of each query, best first.

    If fewer than `num_best` references can be compared, the rest have product -inf and place 0.
    """
    num, device = query_VQD.shape[1], query_VQD.device
    best = torch.full((num, num_best), _NEVER, device=device)
    place = torch.zeros(num, num_best, dtype=torch.int64, device=device)
    groups = torch.full((num, num_groups), _NEVER, device=device)
    for chunk in chunks:
        product_QC = _products(query_VQD, chunk, owner_Q)
        if chunk.group_C is not None:
            _note_groups(groups, product_QC, chunk.group_C)
        # after a few chunks few queries find anything better, and only those are sorted
        better = (product_QC.amax(1) > best[:, -1]).nonzero()[:, 0]
        if len(better):
            found, where = product_QC[better].topk(min(num_best, product_QC.shape[1]), dim=1)
            together = torch.cat([best[better], found], dim=1)
            places = torch.cat([place[better], where + chunk.first], dim=1)
            best[better], order = together.topk(num_best, dim=1)
            place[better] = places.gather(1, order)
    return Best(best, place, groups)


def _products(query_VQD: Tensor, chunk: Chunk, owner_Q: Tensor | None) -> Tensor:
    highest_QC = query_VQD[0] @ chunk.vectors_CD.T
    other_QC = torch.empty_like(highest_QC) if len(query_VQD) > 1 else highest_QC
    for variant_QD in query_VQD[1:]:
        torch.mm(variant_QD, chunk.vectors_CD.T, out=other_QC)
        torch.maximum(highest_QC, other_QC, out=highest_QC)
    if owner_Q is not None and chunk.owner_C is not None:
        highest_QC.masked_fill_(owner_Q[:, None] == chunk.owner_C[None], _NEVER)
    return highest_QC


def _note_groups(best_QG: Tensor, product_QC: Tensor, group_C: Tensor) -> None:
    order = group_C.argsort(stable=True)
    names, counts = group_C[order].unique_consecutive(return_counts=True)
    sorted_QC = product_QC[:, order]
    for name, columns in zip(names.tolist(), sorted_QC.split(counts.tolist(), dim=1), strict=True):
        if name >= 0:
            torch.maximum(best_QG[:, name], columns.amax(1), out=best_QG[:, name])
