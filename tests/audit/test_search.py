"""The search by blocks finds what a look at all products finds."""

from collections.abc import Iterator

import torch
from torch import Tensor

from emixer.audit.search import Chunk, best_products

VARIANTS, QUERIES, REFERENCES, NUMBERS = 3, 17, 103, 8


def made() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(VARIANTS, QUERIES, NUMBERS, generator=generator),
        torch.randn(REFERENCES, NUMBERS, generator=generator),
    )


def chunks(references: Tensor, size: int, owner: Tensor | None = None, group: Tensor | None = None) -> Iterator[Chunk]:
    for first in range(0, len(references), size):
        part = slice(first, first + size)
        yield Chunk(
            first, references[part], None if owner is None else owner[part], None if group is None else group[part]
        )


def test_the_best_of_all_products_whatever_the_chunks() -> None:
    queries, references = made()
    expected = (queries @ references.T).amax(0).topk(4)
    for size in (1, 10, 1000):
        found = best_products(queries, chunks(references, size), 4)
        torch.testing.assert_close(found.product_QK, expected.values)
        assert torch.equal(found.place_QK, expected.indices)


def test_what_a_query_owns_is_not_compared_with_it() -> None:
    queries, references = made()
    owner = torch.arange(REFERENCES) % 10
    own = torch.arange(QUERIES) % 10
    expected = (queries @ references.T).amax(0).masked_fill(own[:, None] == owner[None], -torch.inf).max(1)
    found = best_products(queries, chunks(references, 20, owner), 1, owner_Q=own)
    assert torch.equal(found.place_QK[:, 0], expected.indices)


def test_the_best_of_each_group_and_none_of_those_without() -> None:
    queries, references = made()
    group = torch.arange(REFERENCES) % 4 - 1
    products = (queries @ references.T).amax(0)
    found = best_products(queries, chunks(references, 25, group=group), 1, num_groups=3)
    for number in range(3):
        torch.testing.assert_close(found.group_product_QG[:, number], products[:, group == number].amax(1))


def test_fewer_references_than_asked_for_leave_places_empty() -> None:
    queries, references = made()
    found = best_products(queries, chunks(references[:2], 8), 3)
    assert found.product_QK[:, 2].isneginf().all()
    assert found.product_QK[:, :2].isfinite().all()
