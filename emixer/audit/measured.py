"""Measurements that the audit keeps of each image: gray ranks, a coarse descriptor, encoder features, a pixel digest.

A Parquet file, of shards or of a dataset, becomes a folder of plain arrays that every process memory-maps. It is named
by the content of the file and the network, so that nothing is measured twice and an interrupted audit resumes.

Shapes: N images, S = 64 side [px], D numbers of a descriptor, F features, H, W sides [px].
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from emixer import files
from emixer.audit.pixels import COARSE_PX, SIDE_PX, coarse, ranked
from emixer.data.array_file import new_array
from emixer.data.loader import fixed_binary_view
from emixer.data.pair_table import decode_image
from emixer.errors import ShardError
from emixer.evaluation.features import FeatureExtractor

_VERSION = 1
_BATCH = 256
_DECODERS = 4
_RANKS, _COARSE, _FEATURES, _DIGESTS = "ranks.npy", "coarse.npy", "features.npy", "digests.npy"
Array = NDArray[Any]


@dataclass(frozen=True)
class ImageFile:
    """A Parquet file of images, and the folder of their measurements."""

    path: Path
    kind: Literal["shard", "dataset"]
    num_rows: int
    side_px: int
    kept: Path

    @classmethod
    def of(
        cls, path: Path, kind: Literal["shard", "dataset"], num_rows: int, side_px: int, sha256: str, identity: str,
        folder: Path,
    ) -> "ImageFile":  # fmt: skip
        """Image file with its folder under `folder`. sha256: of the file; identity: of the network."""
        key = hashlib.sha256(f"{_VERSION}\n{sha256}\n{side_px}\n{identity}".encode()).hexdigest()[:24]
        return cls(path, kind, num_rows, side_px, folder / key)

    @property
    def is_measured(self) -> bool:
        """Whether its arrays exist."""
        return self.kept.is_dir()


def measure(file: ImageFile, extractor: FeatureExtractor) -> None:
    """Write the arrays of one file, all or none. If another process did so meanwhile, its arrays stay.

    Raises ShardError when the file is damaged or has images of another size, StorageError when the disk is full.
    """
    with files.written_aside(file.kept, replace=False) as aside:
        aside.mkdir()
        shapes = {
            _RANKS: (np.uint8, (SIDE_PX, SIDE_PX)), _COARSE: (np.float16, (COARSE_PX**2,)),
            _FEATURES: (np.float16, (extractor.num_features,)), _DIGESTS: (np.uint64, ()),
        }  # fmt: skip
        arrays = {
            name: new_array(aside / name, dtype, (file.num_rows, *shape)) for name, (dtype, shape) in shapes.items()
        }
        row = 0
        for image_NHW in _images(file):
            part = slice(row, row + len(image_NHW))
            tensor = torch.from_numpy(image_NHW).to(extractor.device)
            ranks_NSS = ranked(tensor)
            arrays[_RANKS][part] = ranks_NSS.cpu().numpy()
            arrays[_COARSE][part] = coarse(ranks_NSS).cpu().numpy()
            arrays[_FEATURES][part] = extractor(tensor[:, None]).cpu().numpy()
            arrays[_DIGESTS][part] = _digests(image_NHW)
            row += len(image_NHW)
        assert row == file.num_rows, "the manifest says how many rows a file has"
        for array in arrays.values():
            array.flush()


@dataclass(frozen=True)
class Measured:
    """Measured images of several files, concatenated, as read-only views of files."""

    folders: tuple[Path, ...]
    first_rows: tuple[int, ...]
    """First row of each file, then the total number of rows."""

    @classmethod
    def open(cls, image_files: Sequence[ImageFile]) -> "Measured":
        """Open files that have been measured."""
        first = np.cumsum([0, *(file.num_rows for file in image_files)])
        return cls(tuple(file.kept for file in image_files), tuple(int(row) for row in first))

    def __len__(self) -> int:
        return self.first_rows[-1]

    def ranks(self, rows: Array) -> Array:
        """Gray ranks, uint8 (len(rows), S, S)."""
        return self._take(_RANKS, rows)

    def coarse(self, rows: Array) -> Array:
        """Coarse descriptors, float32 (len(rows), D)."""
        return self._take(_COARSE, rows).astype(np.float32)

    def features(self, rows: Array) -> Array:
        """Features, float32 (len(rows), F)."""
        return self._take(_FEATURES, rows).astype(np.float32)

    def digests(self) -> Array:
        """Pixel digests, one uint64 per image; equal for equal pixels."""
        return self._take(_DIGESTS, np.arange(len(self)))

    def _take(self, name: str, rows: Array) -> Array:
        """Copy rows of an array, in the order of `rows`."""
        file_of = np.searchsorted(self.first_rows, rows, side="right") - 1
        taken: Array | None = None
        for number in np.unique(file_of):
            here = file_of == number
            part = _opened(self.folders[number] / name)[rows[here] - self.first_rows[number]]
            if taken is None:
                taken = np.empty((len(rows), *part.shape[1:]), part.dtype)
            taken[here] = part
        assert taken is not None, "there are rows to take"
        return taken


def _opened(path: Path) -> Array:
    try:
        array: Array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ShardError(
            f"{path.parent}, what was measured of images, is damaged ({type(error).__name__}). Delete that folder: it "
            "is made anew."
        ) from error
    return array


def _images(file: ImageFile) -> Iterator[NDArray[np.uint8]]:
    """Gray values (N, H, W), batch by batch."""
    shape = (file.side_px, file.side_px)
    try:
        with pq.ParquetFile(file.path) as parquet, ThreadPoolExecutor(_DECODERS) as pool:
            for batch in parquet.iter_batches(_BATCH, columns=["image"]):
                column = batch.column(0)
                if file.kind == "shard":
                    yield np.array(fixed_binary_view(column, np.uint8, shape))
                    continue
                decoded = list(pool.map(decode_image, pc.struct_field(column, "bytes").to_pylist()))
                yield np.stack([_checked(image, file) for image in decoded])
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, type(error).__name__) from error


def _checked(image: NDArray[np.uint8] | None, file: ImageFile) -> NDArray[np.uint8]:
    if image is None:
        raise _damaged(file, "an image that cannot be decoded")
    if image.shape != (file.side_px, file.side_px):
        raise ShardError(
            f"{file.path} holds images of {image.shape[1]} x {image.shape[0]} px; those of the shards have "
            f"{file.side_px} x {file.side_px}. Audit a dataset beside the shards that its model was trained on."
        )
    return image


def _damaged(file: ImageFile, why: str) -> ShardError:
    made_by = "ingest" if file.kind == "shard" else "generate"
    return ShardError(
        f"{file.path} is damaged ({why}). Delete it and give the same `emixer {made_by}` command again, which makes "
        "what is missing."
    )


def _digests(image_NHW: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Random linear hash of the pixels modulo 2^64: equal for equal images, and rarely for others."""
    pixels_NP = image_NHW.reshape(len(image_NHW), -1)
    generator = np.random.default_rng(20240229)
    weights_P = generator.integers(1, 2**63, pixels_NP.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    digest_N: NDArray[np.uint64] = (pixels_NP.astype(np.uint64) * weights_P).sum(1, dtype=np.uint64)
    return digest_N
