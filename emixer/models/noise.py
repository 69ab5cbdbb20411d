"""Random numbers that belong to rows, not to processes.

A row of a training step, or of a generated dataset, gets the same numbers however the rows are spread over workers,
micro-batches and restarts: rows are drawn in aligned blocks, each from its own generator seeded by (seed, step, name,
block). So no random state needs to be saved, and two workers with half the batch repeat what one worker does.
CPU and CUDA generators give different streams; a run is reproducible per device type.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_ROWS = 16


@dataclass(frozen=True)
class RowNoise:
    """Source of noise for rows [first_row, first_row + num_rows) of one step. Each `name` is an independent stream."""

    seed: int
    step: int
    first_row: int
    num_rows: int
    device: torch.device

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal, (num_rows, *shape) float32."""
        return self._draw(name, shape, lambda t, g: t.normal_(generator=g))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform in [0, 1), (num_rows, *shape) float32."""
        return self._draw(name, shape, lambda t, g: t.uniform_(generator=g))

    def gumbel(self, name: str, *shape: int) -> Tensor:
        """Standard Gumbel, (num_rows, *shape) float32, always finite."""
        smallest = torch.finfo(torch.float32).tiny  # an exponential may come out as 0, whose logarithm is not finite
        return self._draw(name, shape, lambda t, g: t.exponential_(generator=g).clamp_(min=smallest).log_().neg_())

    def rows(self, first: int, num: int) -> "RowNoise":
        """The noise of rows [first, first + num) of these rows: what a micro-batch sees."""
        return RowNoise(self.seed, self.step, self.first_row + first, num, self.device)

    def _draw(self, name: str, shape: tuple[int, ...], fill: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
        first_block = self.first_row // BLOCK_ROWS
        num_blocks = (self.first_row + self.num_rows - 1) // BLOCK_ROWS - first_block + 1
        drawn = torch.empty(num_blocks, BLOCK_ROWS, *shape, device=self.device)
        generator = torch.Generator(self.device)
        for index in range(num_blocks):
            fill(drawn[index], generator.manual_seed(_seed_of(self.seed, self.step, name, first_block + index)))
        start = self.first_row - first_block * BLOCK_ROWS
        return drawn.flatten(0, 1)[start : start + self.num_rows]


def _seed_of(seed: int, step: int, name: str, block: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{step}|{name}|{block}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
