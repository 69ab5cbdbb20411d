"""Whose images a shard folder holds: enough to tell whether two folders come from one collection.

The digest is of the set of subjects, so the same collection ingested at another size has the same one, and a part of
it has another.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from emixer.data.shards import ShardSet


@dataclass(frozen=True)
class CollectionIdentity:
    """What `identify` found."""

    digest: str
    sources: tuple[str, ...]
    """Names in the shards' `source` column."""


def identify(shards: ShardSet) -> CollectionIdentity:
    """Reads two columns of all shards. No identifier leaves this function but inside the digest."""
    subjects: set[str] = set()
    sources: set[str] = set()
    for split in shards.splits:
        for file in shards.files(split):
            table = pq.read_table(file, columns=["source", "subject_id"])
            sources |= set(pc.unique(table["source"]).to_pylist())
            subjects |= set(pc.unique(table["subject_id"]).to_pylist())
    digest = hashlib.blake2b("\n".join(sorted(subjects)).encode(), digest_size=16).hexdigest()
    return CollectionIdentity(digest, tuple(sorted(sources)))


def describe_training_data(shards: ShardSet) -> dict[str, Any]:
    """Plain values for a model's card: the sources of the training images, and how many images, studies and subjects
    there are, as far as the manifest counts them."""
    counts = shards.manifest.get("splits", {}).get("train", {})
    counted = {name: counts[name] for name in ("studies", "subjects") if name in counts}
    return {"sources": list(identify(shards).sources), "images": shards.num_rows("train"), **counted}
