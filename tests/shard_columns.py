"""Shards of which a column is changed."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.data.schema import read_shard_info
from emixer.data.shards import shard_name, write_shard
from emixer.files import sha256_of, write_json


def fill_column(shards: Path, split: str, name: str, value: Any) -> None:
    """Rewrite the only shard of a split with one value in all rows of a column, and the manifest."""
    path, manifest = shards / shard_name(split, 0), json.loads((shards / "manifest.json").read_text())
    table = pq.read_table(path)
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    filled = table.set_column(place, field, pa.array([value] * table.num_rows, field.type))
    write_shard(path, filled, read_shard_info(path), row_group_rows=16)
    listed = next(shard for shard in manifest["shards"] if shard["split"] == split)
    listed |= {"num_bytes": path.stat().st_size, "sha256": sha256_of(path)}
    write_json(shards / "manifest.json", manifest)
