"""Shards on disk: writing one whole or not at all, and opening a finished set.

A finished folder holds `<split>-00000.parquet ...`, manifest.json, vocabulary.json and quarantine.parquet.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.data.row_group_writer import RowGroupWriter
from emixer.data.schema import MANIFEST_NAME, SHARD_GLOB, SPLITS, VOCABULARY_NAME, ShardInfo, read_shard_info
from emixer.data.vocabulary import Vocabulary
from emixer.errors import ShardError
from emixer.files import require_readable, sha256_of, written_aside

_INGEST_AGAIN = "Run the same `emixer ingest` command again; finished shards are kept."
# pixels barely compress and must stream at tens of thousands of images a second; text and ids compress well
_COMPRESSION = {
    "dicom_id": "zstd", "study_id": "zstd", "subject_id": "zstd", "view": "zstd", "split": "zstd", "image": "none",
    "report": "zstd", "sentences.list.element.list.element": "zstd", "labels.list.element": "zstd", "source": "zstd",
}  # fmt: skip
_DICTIONARY = ["view", "split", "source", "sentences.list.element.list.element"]


def shard_name(split: str, index: int) -> str:
    """File name of a shard, e.g. train-00012.parquet."""
    return f"{split}-{index:05d}.parquet"


@contextmanager
def open_shard(path: Path, info: ShardInfo, row_group_rows: int) -> Iterator[RowGroupWriter]:
    """Yields a writer of `path`; the file appears whole when the block ends, or not at all.

    Raises StorageError when the disk is full.
    """
    with (
        written_aside(path) as aside,
        pq.ParquetWriter(aside, info.arrow_schema(), compression=_COMPRESSION, use_dictionary=_DICTIONARY) as parquet,
    ):
        writer = RowGroupWriter(parquet, row_group_rows)
        yield writer
        writer.finish()


def write_shard(path: Path, table: pa.Table, info: ShardInfo, row_group_rows: int) -> None:
    """Writes `table` (columns of `info.arrow_schema()`) as one shard, atomically."""
    with open_shard(path, info, row_group_rows) as writer:
        writer.write(table)


@dataclass(frozen=True)
class ShardFile:
    """What the manifest says of one shard."""

    name: str
    split: str
    num_rows: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardSet:
    """A finished folder of shards.

    manifest: manifest.json as it stands; vocabulary: of the train reports (special tokens only, if there are none).
    """

    folder: Path
    info: ShardInfo
    manifest: dict[str, Any]
    vocabulary: Vocabulary
    shard_files: tuple[ShardFile, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Opens what `emixer ingest` finished; reads every shard's footer, no rows.

        Raises ShardError when something is missing, cut short, of another version, or does not belong together, and
        StorageError when it is closed to this user.
        """
        for path in (folder, folder / MANIFEST_NAME, folder / VOCABULARY_NAME):
            require_readable(path)
        manifest = _read_manifest(folder)
        listed = _listed_files(folder, manifest)
        for file in listed:
            require_readable(folder / file.name)
        if not listed:
            raise ShardError(
                f"{folder} has no shards: every image was excluded. See quarantine.parquet there for the reasons."
            )
        infos = [_checked_info(folder / file.name, file) for file in listed]
        for file, info in zip(listed, infos, strict=True):
            _require_same(infos[0], info, folder / listed[0].name, folder / file.name)
        _refuse_unlisted_files(folder, {file.name for file in listed})
        return cls(folder, infos[0], manifest, Vocabulary.load(folder / VOCABULARY_NAME), tuple(listed))

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that have at least one image, in the order train, validate, test."""
        return tuple(split for split in SPLITS if any(f.split == split and f.num_rows for f in self.shard_files))

    def files(self, split: str) -> list[Path]:
        """Shards of a split, in order. Raises ShardError when the split has no image."""
        self._require_split(split)
        return [self.folder / f.name for f in self.shard_files if f.split == split and f.num_rows]

    def num_rows(self, split: str) -> int:
        """Images of a split; 0 when it is empty."""
        return sum(f.num_rows for f in self.shard_files if f.split == split)

    def has_reports(self, split: str) -> bool:
        """Whether an image of the split has a report that can be read; reads shards up to the first one."""
        columns = (
            pq.read_table(self.folder / f.name, columns=["sentences"])[0] for f in self.shard_files if f.split == split
        )
        return any(column.null_count < len(column) for column in columns)

    def digest(self, splits: Sequence[str] = SPLITS) -> str:
        """Digest of the images in these splits, from the checksums in the manifest, wherever the folder is."""
        told = "".join(file.sha256 for file in self.shard_files if file.split in splits)
        return hashlib.sha256(told.encode()).hexdigest()

    def verify(self) -> None:
        """Compares every shard's SHA-256 with the manifest, reading all bytes.

        Raises ShardError naming the first that differs.
        """
        for file in self.shard_files:
            if sha256_of(self.folder / file.name) != file.sha256:
                raise ShardError(
                    f"{self.folder / file.name} has changed since it was written (SHA-256 differs). {_INGEST_AGAIN}"
                )

    def _require_split(self, split: str) -> None:
        if split not in SPLITS:
            raise ShardError(f"There is no split {split!r}. The splits are {', '.join(SPLITS)}.")
        if self.num_rows(split) == 0:
            raise ShardError(
                f"The split {split!r} of {self.folder} is empty; images are in: {', '.join(self.splits) or 'none'}. "
                "Choose one of those, or ingest again with images for it."
            )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise ShardError(f"There is no folder {folder}. Expected shards written by `emixer ingest --out {folder}`.")
    if not path.exists():
        begun = any(folder.glob("*-[0-9]*.parquet")) or (folder / ".ingest").is_dir()
        if begun:
            raise ShardError(f"{folder} holds an ingest that has not finished (no {MANIFEST_NAME}). {_INGEST_AGAIN}")
        raise ShardError(f"{folder} holds no shards (no {MANIFEST_NAME}). Give the --out folder of `emixer ingest`.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ShardError(f"{path} cannot be read as JSON: it is damaged. {_INGEST_AGAIN}") from error
    if not isinstance(manifest, dict) or "shards" not in manifest:
        raise ShardError(f"{path} is not a manifest of emixer shards. Expected a folder written by `emixer ingest`.")
    return manifest


def _listed_files(folder: Path, manifest: dict[str, Any]) -> list[ShardFile]:
    try:
        names = [f.name for f in fields(ShardFile)]
        return [ShardFile(**{name: entry[name] for name in names}) for entry in manifest["shards"]]
    except (KeyError, TypeError) as error:
        raise ShardError(f"{folder / MANIFEST_NAME} does not list its shards as expected. {_INGEST_AGAIN}") from error


def _checked_info(path: Path, listed: ShardFile) -> ShardInfo:
    if not path.exists():
        raise ShardError(f"{path} is missing, though {MANIFEST_NAME} lists it. {_INGEST_AGAIN}")
    info = read_shard_info(path)
    num_bytes = path.stat().st_size
    if num_bytes != listed.num_bytes:
        raise ShardError(
            f"{path} has {num_bytes:,} bytes, {MANIFEST_NAME} says {listed.num_bytes:,}: "
            f"it has changed or is cut short. {_INGEST_AGAIN}"
        )
    return info


def _require_same(first: ShardInfo, other: ShardInfo, first_path: Path, other_path: Path) -> None:
    for field in fields(ShardInfo):
        ours, theirs = getattr(first, field.name), getattr(other, field.name)
        if ours != theirs:
            raise ShardError(
                f"Shards of two datasets are mixed: {field.name} is {ours!r} in {first_path} but {theirs!r} in "
                f"{other_path}. Give each dataset a folder of its own."
            )


def _refuse_unlisted_files(folder: Path, listed: set[str]) -> None:
    found = {path.name for split in SPLITS for path in folder.glob(SHARD_GLOB.format(split=split))}
    if found - listed:
        raise ShardError(
            f"{folder} holds {len(found - listed)} shards that {MANIFEST_NAME} does not list, "
            f"e.g. {min(found - listed)}. Give each dataset a folder of its own."
        )
