"""Nearest image of another side for each image of one side: by aligned pixels, and by features.

Shapes: N images of a side, Q queries of a block, K candidates, G groups of references, F features.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor

from emixer import files
from emixer.audit.measured import Measured
from emixer.audit.pixels import coarse, correlation, structures, templates, variants
from emixer.audit.search import Best, Chunk, best_products
from emixer.checkpoint import write_tensors

SPACES = ("pixels", "features")
"""How images are compared."""
_VERSION = 2
QUERY_ROWS = 2048
"""Queries per block, which is the unit of a task and of what an interrupted audit keeps."""
_CHUNK_ROWS = 2048
"""References whose products with a block are held at once: with more, they no longer fit into a CPU's cache."""
_CENTRE_ROWS = 8192
_LAID_OVER = 3
"""Candidates that are aligned with each image."""
_PAIRS_AT_ONCE = 256
Array = NDArray[Any]


@dataclass(frozen=True)
class Side:
    """Images to compare. owners: subject of each image, if images of the same subject do not count. groups: of each
    image, as a number from 0, -1 for none."""

    measured: Measured
    rows: Array
    owners: Array | None = None
    num_groups: int = 0
    groups: Array | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def digest(self) -> str:
        """Hash of everything that determines the matches."""
        found = hashlib.sha256("\n".join(folder.name for folder in self.measured.folders).encode())
        for array in (self.rows, self.owners, self.groups):
            found.update(b"-" if array is None else np.ascontiguousarray(array, np.int64).tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Matches:
    """For each query: distances to the nearest reference, its row in its `Measured`, and nearness by group."""

    pixel_distance: NDArray[np.float32]
    """1 - correlation of structures, 0 for a copy."""
    pixel_row: NDArray[np.int64]
    feature_distance: NDArray[np.float32]
    """Euclidean distance."""
    feature_row: NDArray[np.int64]
    pixel_groups: NDArray[np.float32]
    """(N, G) correlation of coarse descriptors with the nearest image of each group: higher is nearer."""
    feature_groups: NDArray[np.float32]
    """(N, G) negative squared distance to the nearest image of each group."""

    def __len__(self) -> int:
        return len(self.pixel_row)

    def distance(self, space: str) -> NDArray[np.float32]:
        """(N) distances in one of SPACES; here and below."""
        return self.pixel_distance if space == "pixels" else self.feature_distance

    def row(self, space: str) -> NDArray[np.int64]:
        """(N) rows of the nearest references."""
        return self.pixel_row if space == "pixels" else self.feature_row

    def groups(self, space: str) -> NDArray[np.float32]:
        """(N, G) nearness by group."""
        return self.pixel_groups if space == "pixels" else self.feature_groups

    @classmethod
    def concatenate(cls, parts: "list[Matches]") -> "Matches":
        """Matches of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


def match_block(queries: Side, first: int, references: Side, device: torch.device, kept: Path) -> Path:
    """Match the queries [first, first + QUERY_ROWS) unless already done; return the file of the result."""
    key = hashlib.sha256(f"{_VERSION}\n{queries.digest()}\n{first}\n{references.digest()}".encode()).hexdigest()[:24]
    path = kept / f"{key}.safetensors"
    if not path.exists():
        found = _matched(queries, slice(first, first + QUERY_ROWS), references, device)
        with files.written_aside(path) as aside:
            write_tensors(aside, {each.name: torch.from_numpy(getattr(found, each.name)) for each in fields(Matches)})
    return path


def read_matches(path: Path) -> Matches:
    """Read the result of `match_block`."""
    return Matches(**load_file(path))


@dataclass(frozen=True)
class References:
    """Images that queries are compared with: descriptors and features of a side, in chunks on a device."""

    side: Side
    coarse: Iterable[Chunk]
    features: Iterable[Chunk]
    """With minus half the squared length appended, so that the highest product is that of the nearest."""
    centre_F: Array
    """Subtracted from features, so that products are exact enough."""

    @classmethod
    def streamed(cls, side: Side, device: torch.device) -> "References":
        """References read once, in chunks that are released: for one block of queries, and a side of any size."""
        centre_F = _centre(side)
        return cls(side, _coarse_chunks(side, device), _feature_chunks(side, centre_F, device), centre_F)

    @classmethod
    def loaded(cls, side: Side, device: torch.device) -> "References":
        """References kept on the device, at four bytes per number: for many blocks of queries."""
        centre_F = _centre(side)
        return cls(side, tuple(_coarse_chunks(side, device)), tuple(_feature_chunks(side, centre_F, device)), centre_F)


def nearest(ranks_QSS: Tensor, features_QF: Tensor, owner_Q: Tensor | None, references: References) -> Matches:
    """Nearest reference of each query. ranks: of `ranked`, uint8; features: float32; both on the device."""
    device, side = ranks_QSS.device, references.side
    query_VQD = variants(ranks_QSS)
    by_pixels = best_products(query_VQD, iter(references.coarse), _LAID_OVER, side.num_groups, owner_Q)
    pixel_distance, pixel_row = _laid_over(ranks_QSS, query_VQD, by_pixels, side, device)
    del query_VQD
    centred_QF = features_QF - torch.from_numpy(references.centre_F).to(device)
    ones = torch.ones(len(centred_QF), 1, device=device)
    by_features = best_products(
        torch.cat([centred_QF, ones], 1)[None], iter(references.features), 1, side.num_groups, owner_Q
    )
    length_Q = centred_QF.square().sum(1)
    squared_Q = (length_Q - 2 * by_features.product_QK[:, 0]).clamp_min(0)
    return Matches(
        pixel_distance, pixel_row,
        squared_Q.sqrt().cpu().numpy(), side.rows[by_features.place_QK[:, 0].cpu().numpy()],
        by_pixels.group_product_QG.cpu().numpy(),
        (2 * by_features.group_product_QG - length_Q[:, None]).cpu().numpy(),
    )  # fmt: skip


def _matched(queries: Side, part: slice, references: Side, device: torch.device) -> Matches:
    rows = queries.rows[part]
    owners = None if queries.owners is None else torch.from_numpy(queries.owners[part]).to(device)
    ranks = torch.from_numpy(queries.measured.ranks(rows)).to(device)
    features = torch.from_numpy(queries.measured.features(rows)).to(device)
    return nearest(ranks, features, owners, References.streamed(references, device))


def _centre(side: Side) -> Array:
    centre_F: Array = side.measured.features(side.rows[:_CENTRE_ROWS]).mean(0)
    return centre_F


def _laid_over(
    ranks_QSS: Tensor, query_VQD: Tensor, best: Best, references: Side, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distance of each query to its most correlated candidate, and that candidate's row."""
    distances, rows = [], []
    for block in torch.arange(len(ranks_QSS), device=device).split(_PAIRS_AT_ONCE):
        found, query_PSS = [], structures(ranks_QSS[block])
        for candidate in range(best.place_QK.shape[1]):
            row_P = references.rows[best.place_QK[block, candidate].cpu().numpy()]
            reference = torch.from_numpy(references.measured.ranks(row_P)).to(device)
            variant_P = (query_VQD[:, block] * coarse(reference)[None]).sum(2).argmax(0)
            correlated = correlation(query_PSS, templates(reference), variant_P)
            found.append(correlated.where(best.product_QK[block, candidate].isfinite(), -torch.inf))
        highest_P, which_P = torch.stack(found).max(0)
        chosen = best.place_QK[block].gather(1, which_P[:, None])[:, 0]
        distances.append((1 - highest_P).cpu().numpy())
        rows.append(references.rows[chosen.cpu().numpy()])
    return np.concatenate(distances), np.concatenate(rows)


def _coarse_chunks(side: Side, device: torch.device) -> Iterator[Chunk]:
    for first in range(0, len(side), _CHUNK_ROWS):
        part = slice(first, first + _CHUNK_ROWS)
        vectors = torch.from_numpy(side.measured.coarse(side.rows[part])).to(device)
        yield Chunk(first, vectors, _on(side.owners, part, device), _on(side.groups, part, device))


def _feature_chunks(side: Side, centre_F: Array, device: torch.device) -> Iterator[Chunk]:
    for first in range(0, len(side), _CHUNK_ROWS):
        part = slice(first, first + _CHUNK_ROWS)
        features = torch.from_numpy(side.measured.features(side.rows[part]) - centre_F).to(device)
        vectors = torch.cat([features, features.square().sum(1, keepdim=True) / -2], 1)
        yield Chunk(first, vectors, _on(side.owners, part, device), _on(side.groups, part, device))


def _on(array: Array | None, part: slice, device: torch.device) -> Tensor | None:
    return None if array is None else torch.from_numpy(np.array(array[part])).to(device)
