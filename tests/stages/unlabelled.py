"""Shards of which a split has lost its labels."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.data.schema import read_shard_info
from emixer.data.shards import shard_name, write_shard
from emixer.files import sha256_of, write_json


def remove_labels(shards: Path, split: str) -> None:
    """Rewrite the only shard of a split, and the manifest."""
    path, manifest = shards / shard_name(split, 0), json.loads((shards / "manifest.json").read_text())
    table = pq.read_table(path)
    place = table.schema.get_field_index("labels")
    unlabelled = pa.nulls(table.num_rows, table.schema.field(place).type)
    write_shard(path, table.set_column(place, table.schema.field(place), unlabelled), read_shard_info(path), 16)
    listed = next(shard for shard in manifest["shards"] if shard["split"] == split)
    listed |= {"num_bytes": path.stat().st_size, "sha256": sha256_of(path)}
    write_json(shards / "manifest.json", manifest)
