"""The plan of an ingest: which image goes to which shard, decided before any image is opened.

Images of a split are put in the order of a hash of their id, so every shard is a fair sample of its split, and are cut
into shards of `rows_per_shard`. A shard is cut into blocks; a block is the work of one task. What is left out later
makes a shard shorter and moves nothing to another one, so each shard can be made, checked and remade on its own.

The folder `.ingest` beside the shards holds the plan and what is done of it:

    plan.json, plan.parquet    settings and images; row group i is block i
    blocks/00000.parquet       decoded block i, row for row; deleted once its shard is written
    selection.parquet           keep or not, and why, row for row; row group i is block i
    shards/train-00000.json    what a finished shard holds
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.files import FreshView
from emixer._version import __version__
from emixer.config.ingest import IngestConfig
from emixer.data.arrow_memory import release_unused
from emixer.data.images import IMAGE_VERSION
from emixer.data.schema import ENGLISH, KNOWN_OF_IMAGES, SHARD_VERSION, SPLITS, ShardInfo
from emixer.data.sections import SECTION_VERSION
from emixer.data.shards import shard_name
from emixer.data.sources import Collection
from emixer.data.table_digest import update_with
from emixer.data.text import TOKENIZER_VERSION
from emixer.errors import RunFolderError
from emixer.files import (
    alone_in,
    is_bookkeeping,
    is_there,
    remove_partials,
    storage_error,
    write_json,
    written_aside,
)

IMAGES_PER_BLOCK = 256
_ROWS_AT_ONCE = 65_536
"""Label vectors that are put in order together."""
_SECTION_RULES = {
    "drop": "findings",
    "impression": "findings-or-impression",
    "impression-or-last-paragraph": "findings-or-impression-or-last-paragraph",
    "keep-without-report": "findings-or-none",
}


@dataclass(frozen=True)
class PlannedShard:
    """One file to be. blocks: indices of its blocks, in order."""

    name: str
    split: str
    blocks: tuple[int, ...]
    num_images: int


@dataclass(frozen=True)
class Plan:
    """Images in their final order, and their cut into shards and blocks.

    images: none once they are in the workspace, which gives the columns that are needed (`Workspace.columns`).
    collection: what the tables say besides. block_starts: first row of each block, and one past the last at the end.
    fingerprint: changes with anything that could change a byte of a shard, except the images' own bytes.
    """

    images: pa.Table
    collection: Collection
    shards: tuple[PlannedShard, ...]
    block_starts: tuple[int, ...]
    info: ShardInfo
    row_group_rows: int
    settings: dict[str, Any]
    fingerprint: str

    @property
    def num_blocks(self) -> int:
        return len(self.block_starts) - 1

    def without_images(self) -> "Plan":
        """The same, without what takes memory that grows with the collection."""
        return replace(self, images=self.images.schema.empty_table())

    @property
    def num_planned(self) -> int:
        """All images."""
        return self.block_starts[-1]

    def num_images(self, blocks: list[int]) -> int:
        """Images of these blocks together."""
        return sum(self.block_starts[i + 1] - self.block_starts[i] for i in blocks)


def make_plan(collection: Collection, config: IngestConfig) -> Plan:
    """Orders and cuts the images of a collection. A pure function of the tables and the settings."""
    schema = collection.images.schema
    columns = dict(zip(schema.names, collection.images.columns, strict=True))
    # not slice(0, 0), which would keep all rows
    collection = replace(collection, images=schema.empty_table())
    release_unused()  # of what reading the tables took for a while
    images = _ordered(columns, schema)
    info = ShardInfo(
        side_px=config.side_px,
        label_names=collection.label_names,
        section_rule=_SECTION_RULES[config.missing_findings] if collection.has_reports else "none",
        tokenizer_version=TOKENIZER_VERSION,
        package_version=__version__,
        report_language=collection.report_language,
        known_of_images=tuple(
            name
            for name in KNOWN_OF_IMAGES
            if images[name].null_count < images.num_rows or name in collection.from_headers
        ),
    )
    shards, block_starts = _cut(images, config.rows_per_shard)
    settings = _settings(collection, config)
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for batch in images.combine_chunks().to_batches():
        update_with(digest, batch)
    row_group_rows = max(1, config.row_group_bytes // config.side_px**2)
    fingerprint = digest.hexdigest()
    return Plan(images, collection, shards, block_starts, info, row_group_rows, settings, fingerprint)


def _ordered(columns: dict[str, pa.ChunkedArray], schema: pa.Schema) -> pa.Table:
    """By split, then by a hash of the id. Takes the columns out of the dictionary one by one: a caller who has them
    nowhere else never holds two tables."""
    hashes = np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(i.as_py().encode(), digest_size=8, person=b"emixer-order").digest(), "big")
            for i in columns["dicom_id"]
        ),
        np.uint64,
        len(columns["dicom_id"]),
    )
    splits = pc.index_in(columns["split"], value_set=pa.array(SPLITS)).to_numpy()
    order = pa.array(np.lexsort((hashes, splits)))
    ordered = {}
    for name in schema.names:
        column = columns.pop(name).combine_chunks()
        release_unused()  # a pool keeps what is freed, for a while, and with it all copies
        ordered[name] = _taken(column, order)
        del column
        release_unused()
    return pa.table(ordered, schema=schema)


def _taken(column: pa.Array, order: pa.Array) -> pa.Array:
    """The rows of a column in that order. Of vectors piece by piece: Arrow takes them by an index for each number."""
    if not pa.types.is_fixed_size_list(column.type):
        return column.take(order)
    pieces = [column.take(order.slice(start, _ROWS_AT_ONCE)) for start in range(0, len(order), _ROWS_AT_ONCE)]
    return pa.concat_arrays(pieces) if pieces else column


def _cut(images: pa.Table, rows_per_shard: int) -> tuple[tuple[PlannedShard, ...], tuple[int, ...]]:
    shards: list[PlannedShard] = []
    starts = [0]
    split_of_row = pc.index_in(images["split"], value_set=pa.array(SPLITS)).to_numpy()
    for index, split in enumerate(SPLITS):
        first, last = np.searchsorted(split_of_row, [index, index + 1])
        for number, start in enumerate(range(first, last, rows_per_shard)):
            stop = min(start + rows_per_shard, int(last))
            cuts = [*range(start + IMAGES_PER_BLOCK, stop, IMAGES_PER_BLOCK), stop]
            blocks = tuple(range(len(starts) - 1, len(starts) - 1 + len(cuts)))
            shards.append(PlannedShard(shard_name(split, number), split, blocks, stop - start))
            starts += cuts
    return tuple(shards), tuple(starts)


def _settings(collection: Collection, config: IngestConfig) -> dict[str, Any]:
    """What the shards depend on besides the image table; where things lie is no part of it."""
    kept = config.model_dump(mode="json", exclude={"out", "source"})
    if collection.from_headers:
        kept["from_headers"] = list(collection.from_headers)
    if collection.report_language != ENGLISH:
        kept["report_language"] = collection.report_language
    return kept | {
        "source": collection.source,
        "label_names": list(collection.label_names),
        "versions": {
            "package": __version__,
            "shards": SHARD_VERSION,
            "images": IMAGE_VERSION,
            "sections": SECTION_VERSION,
            "tokenizer": TOKENIZER_VERSION,
        },
    }


@dataclass(frozen=True)
class Workspace:
    """The folder of shards and its `.ingest`. Paths only, so that it travels to tasks."""

    out: Path

    @property
    def state(self) -> Path:
        return self.out / ".ingest"

    @property
    def plan_table(self) -> Path:
        return self.state / "plan.parquet"

    @property
    def plan_json(self) -> Path:
        return self.state / "plan.json"

    @property
    def selection(self) -> Path:
        return self.state / "selection.parquet"

    @property
    def blocks(self) -> Path:
        return self.state / "blocks"

    def block(self, index: int) -> Path:
        """Decoded block `index`."""
        return self.blocks / f"{index:06d}.parquet"

    def record(self, shard: str) -> Path:
        """What is known of a finished shard."""
        return self.state / "shards" / f"{Path(shard).stem}.json"

    def look_again(self) -> None:
        """Makes this machine see what tasks have written on others since it last looked."""
        for folder in (self.out, self.state, self.blocks, self.state / "shards"):
            FreshView(folder).refresh()

    def columns(self, *names: str) -> pa.Table:
        """Columns of the planned images, in the plan's order."""
        return read_columns(self.plan_table, names)

    @contextmanager
    def opened(self, plan: Plan) -> Iterator[Plan]:
        """Takes the folder for this plan alone: writes the plan, or checks that the one there is the same.

        Yields the plan without its images, of which nothing is kept in memory here. Raises RunFolderError when the
        folder belongs to another ingest, or another process works in it.
        """
        self.check(plan)
        try:
            self.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(self.state, error) from error
        with alone_in(self.out, "ingest"):
            self.look_again()
            self.check(plan)  # another process may have begun here since
            for folder in (self.out, self.state, self.blocks, self.state / "shards"):
                remove_partials(folder)
            if not self.plan_json.exists():
                write_aligned(self.plan_table, plan.images, plan.block_starts)
                write_json(self.plan_json, {"fingerprint": plan.fingerprint, "settings": plan.settings})
            plan = plan.without_images()
            yield plan

    def check(self, plan: Plan) -> None:
        """Raises RunFolderError when the folder belongs to another ingest, or holds anything else.

        StorageError when it may not be read.
        """
        if not is_there(self.plan_json):
            there = self.out.iterdir() if self.out.is_dir() else ()
            if any(path != self.state and not is_bookkeeping(path) for path in there):
                raise RunFolderError(
                    f"{self.out} is not empty and not a folder of an ingest (no "
                    f"{self.plan_json.relative_to(self.out)}). Choose an empty or new folder for ingest.out."
                )
            return
        try:
            there = json.loads(self.plan_json.read_text(encoding="utf-8"))
            fingerprint, settings = there["fingerprint"], there["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{self.plan_json} is damaged. Choose another folder for ingest.out.") from error
        if fingerprint != plan.fingerprint:
            raise RunFolderError(
                f"{self.out} belongs to another ingest: {_difference(settings, plan.settings)}. "
                "Choose another folder for ingest.out, or delete this one to start over."
            )


def write_aligned(path: Path, table: pa.Table, block_starts: tuple[int, ...]) -> None:
    """Writes `table` so that row group i is block i."""
    with written_aside(path) as aside, pq.ParquetWriter(aside, table.schema, compression="zstd") as writer:
        for start, stop in pairwise(block_starts):
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)


def read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Columns of a Parquet file. One thread, without reading ahead: half the memory of Arrow's defaults."""
    return pq.read_table(path, columns=list(names), use_threads=False, pre_buffer=False)


def read_aligned(path: Path, block: int) -> pa.Table:
    """Rows of one block of a table written by `write_aligned`."""
    with pq.ParquetFile(path) as file:
        return file.read_row_group(block)


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    changed = [key for key in {**here, **there} if there.get(key) != here.get(key)]
    if not changed:
        return "the tables of the collection name other images, labels or splits"
    key = changed[0]
    return f"{key} was {there.get(key)!r} there and is {here.get(key)!r} here"
