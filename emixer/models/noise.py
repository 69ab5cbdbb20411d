"""Random numbers tied to rows, not to processes.

A row of a training step, or of a generated dataset, gets the same numbers however the rows are spread over workers,
micro-batches and restarts: rows are drawn in aligned blocks, each from its own generator seeded by (seed, step, name,
block). So no random state needs to be saved, and two workers with half the batch reproduce what one worker does.
CPU and CUDA generators give different streams, and CUDA's of one draw larger than the chip's grid depend on the
model of GPU: a run is reproducible per kind of device, with large vocabularies per model of GPU.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

BLOCK_ROWS = 16


class NoiseSource(Protocol):
    """Noise as report writers draw it. Each `name` is an independent stream."""

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform in [0, 1), (rows, *shape) float32."""
        ...

    def gumbel(self, name: str, *shape: int) -> Tensor:
        """Standard Gumbel, (rows, *shape) float32, always finite."""
        ...


@dataclass(frozen=True)
class RowNoise:
    """Source of noise for rows [first_row, first_row + num_rows) of one step. Each `name` is an independent stream."""

    seed: int
    step: int
    first_row: int
    num_rows: int
    device: torch.device
    prefix: str = ""
    """Prepended to the name of each stream."""

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal, (num_rows, *shape) float32."""
        return self._draw(name, shape, lambda t, g: t.normal_(generator=g))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform in [0, 1), (num_rows, *shape) float32."""
        return self._draw(name, shape, lambda t, g: t.uniform_(generator=g))

    def gumbel(self, name: str, *shape: int) -> Tensor:
        """Standard Gumbel, (num_rows, *shape) float32, always finite."""
        smallest = torch.finfo(torch.float32).tiny  # a uniform number may be 0, whose logarithm is not finite
        # starting from torch's own exponential distribution takes six times as long on a CPU
        return self.uniform(name, *shape).clamp_(min=smallest).log_().neg_().log_().neg_()

    def rows(self, first: int, num: int) -> "RowNoise":
        """Return the noise of rows [first, first + num) of these rows, for a micro-batch."""
        return replace(self, first_row=self.first_row + first, num_rows=num)

    def named(self, prefix: str) -> "RowNoise":
        """Return different noise for the same rows: a second draw of each."""
        return replace(self, prefix=f"{self.prefix}{prefix}/")

    def _draw(self, name: str, shape: tuple[int, ...], fill: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
        first_block = self.first_row // BLOCK_ROWS
        num_blocks = (self.first_row + self.num_rows - 1) // BLOCK_ROWS - first_block + 1
        stream = self.prefix + name
        drawn = torch.empty(num_blocks, BLOCK_ROWS, *shape, dtype=torch.float32, device=self.device)
        generator = torch.Generator(self.device)
        for index in range(num_blocks):
            fill(drawn[index], generator.manual_seed(_seed_of(self.seed, self.step, stream, first_block + index)))
        start = self.first_row - first_block * BLOCK_ROWS
        return drawn.flatten(0, 1)[start : start + self.num_rows]


@dataclass(frozen=True)
class RepeatedNoise(RowNoise):
    """The noise of row `first_row` alone, `num_rows` times: rows then differ only by their labels."""

    def rows(self, first: int, num: int) -> "RepeatedNoise":
        """See `RowNoise.rows`."""
        return replace(self, num_rows=num)

    def _draw(self, name: str, shape: tuple[int, ...], fill: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
        alone = RowNoise(self.seed, self.step, self.first_row, 1, self.device, self.prefix)
        return alone._draw(name, shape, fill).repeat(self.num_rows, *[1] * len(shape))


@dataclass(frozen=True)
class StackedNoise:
    """The rows of several sources, stacked for one pass over concatenated batches."""

    parts: Sequence[RowNoise]

    def uniform(self, name: str, *shape: int) -> Tensor:
        """As `RowNoise.uniform`."""
        return torch.cat([part.uniform(name, *shape) for part in self.parts])

    def gumbel(self, name: str, *shape: int) -> Tensor:
        """As `RowNoise.gumbel`."""
        return torch.cat([part.gumbel(name, *shape) for part in self.parts])


def _seed_of(seed: int, step: int, name: str, block: int) -> int:
    digest = hashlib.blake2b(f"{seed}|{step}|{name}|{block}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
