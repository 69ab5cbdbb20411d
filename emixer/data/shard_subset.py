"""A shard folder with only some of the training images of another: for models of someone who has no more.

Validation images are those of the other folder, as is the vocabulary; test images are left out.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.config.training import DataConfig
from emixer.data.loader import open_without_reports
from emixer.data.manifest import label_counts, split_counts
from emixer.data.schema import MANIFEST_NAME, VOCABULARY_NAME, ShardInfo
from emixer.data.shards import ShardFile, ShardSet, open_shard, shard_name
from emixer.errors import ShardError
from emixer.files import sha256_of, write_json, written_aside

_COUNTED = ["split", "study_id", "subject_id", "labels"]


def write_subset(shards: ShardSet, num: int, seed: int, out: Path) -> None:
    """Write the folder `out`, whole or not at all: its train split has the `num` images that `read_real` draws with
    that seed.

    Raises ShardError when the train split has fewer, and StorageError when the disk is full.
    """
    reader = open_without_reports(shards, "train", DataConfig(), seed)
    if num > (there := shards.num_rows("train")):
        raise ShardError(f"{num:,} real images are needed; the train split of {shards.folder} has {there:,}.")
    images: dict[str, Iterable[pa.Table]] = {
        "train": reader.first_rows(num),
        "validate": map(pq.read_table, shards.files("validate")),
    }
    rows_of_group = max(reader.order.group_rows)
    names = shards.info.label_names
    with written_aside(out) as aside:
        aside.mkdir()
        made = {split: _written(aside, split, tables, shards.info, rows_of_group) for split, tables in images.items()}
        files = [file for file, _ in made.values()]
        shards.vocabulary.save(aside / VOCABULARY_NAME)
        write_json(aside / MANIFEST_NAME, {
            "shard_version": shards.info.shard_version,
            "package_version": shards.info.package_version,
            "info": asdict(shards.info),
            "subset": {"images": num, "seed": seed},
            "splits": {split: split_counts(counted, split, [file]) for split, (file, counted) in made.items()},
            "labels": {split: label_counts(counted, split, names) for split, (_, counted) in made.items()},
            "shards": [asdict(file) for file in files],
        })  # fmt: skip


def _written(
    folder: Path, split: str, tables: Iterable[pa.Table], info: ShardInfo, rows_of_group: int
) -> tuple[ShardFile, pa.Table]:
    """The shard of a split, and its columns that are counted; holds one table of images at a time."""
    path, counted = folder / shard_name(split, 0), []
    with open_shard(path, info, rows_of_group) as writer:
        for table in tables:
            writer.write(table)
            counted.append(table.select(_COUNTED))
        num_rows = writer.num_rows
    return ShardFile(path.name, split, num_rows, path.stat().st_size, sha256_of(path)), pa.concat_tables(counted)
