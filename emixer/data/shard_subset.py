"""A shard folder with only some of the training images of another: for models of someone who has no more.

Validation images are those of the other folder, as is the vocabulary; test images are left out.
"""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.config.training import DataConfig
from emixer.data.loader import open_windows
from emixer.data.manifest import label_counts, split_counts
from emixer.data.schema import MANIFEST_NAME, VOCABULARY_NAME
from emixer.data.shards import ShardFile, ShardSet, shard_name, write_shard
from emixer.errors import ShardError
from emixer.files import sha256_of, write_json, written_aside

_SPLITS = ("train", "validate")


def write_subset(shards: ShardSet, num: int, seed: int, out: Path) -> None:
    """Write the folder `out`, whole or not at all: its train split has the `num` images that `read_real` draws with
    that seed.

    Raises ShardError when the train split has fewer, and StorageError when the disk is full.
    """
    reader = open_windows(shards, "train", DataConfig(), seed, max_sentences=1, max_words=2)
    if num > (there := shards.num_rows("train")):
        raise ShardError(f"{num:,} real images are needed; the train split of {shards.folder} has {there:,}.")
    images = {
        "train": reader.first_rows(num),
        "validate": pa.concat_tables(pq.read_table(file) for file in shards.files("validate")),
    }
    rows_of_group = max(reader.order.group_rows)
    names = shards.info.label_names
    with written_aside(out) as aside:
        aside.mkdir()
        files = [_written(aside, split, images[split], shards, rows_of_group) for split in _SPLITS]
        shards.vocabulary.save(aside / VOCABULARY_NAME)
        write_json(aside / MANIFEST_NAME, {
            "shard_version": shards.info.shard_version,
            "package_version": shards.info.package_version,
            "info": asdict(shards.info),
            "subset": {"images": num, "seed": seed},
            "splits": {
                split: split_counts(table, split, [file for file in files if file.split == split])
                for split, table in images.items()
            },
            "labels": {split: label_counts(table, split, names) for split, table in images.items()},
            "shards": [asdict(file) for file in files],
        })  # fmt: skip


def _written(folder: Path, split: str, table: pa.Table, shards: ShardSet, rows_of_group: int) -> ShardFile:
    path = folder / shard_name(split, 0)
    write_shard(path, table, shards.info, rows_of_group)
    return ShardFile(path.name, split, table.num_rows, path.stat().st_size, sha256_of(path))
