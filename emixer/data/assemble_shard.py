"""The decoded blocks of one planned shard + the selection -> one finished shard and its record. One Ray task each."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emixer.data.plan import Plan, PlannedShard, Workspace, read_aligned
from emixer.data.schema import ShardInfo
from emixer.data.shards import ShardFile, open_shard
from emixer.errors import SourceError
from emixer.files import sha256_of, write_json

_FROM_PLAN = ("dicom_id", "study_id", "subject_id", "view", "split", "labels")
_FROM_BLOCK = ("image", "report", "sentences")


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard; `file` is None when none of its images was kept.

    token_counts: occurrences in the reports of this shard that count for the vocabulary (train only).
    """

    file: ShardFile | None
    token_counts: dict[str, int]

    def save(self, workspace: Workspace, name: str) -> None:
        """Writes it beside the shard; from then on the shard is finished."""
        write_json(workspace.record(name), {"file": self.file and asdict(self.file), "token_counts": self.token_counts})


def read_record(workspace: Workspace, name: str) -> ShardRecord | None:
    """The record of a shard that is whole on disk; None when the shard must be made, for whatever reason."""
    try:
        content = json.loads(workspace.record(name).read_text(encoding="utf-8"))
        file = content["file"] and ShardFile(**content["file"])
        record = ShardRecord(file, content["token_counts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if record.file is None:
        return record
    path = workspace.out / name
    whole = path.exists() and path.stat().st_size == record.file.num_bytes and sha256_of(path) == record.file.sha256
    return record if whole else None


@dataclass(frozen=True)
class ShardAssembler:
    """How the shards of this ingest are put together."""

    workspace: Workspace
    shards: tuple[PlannedShard, ...]
    info: ShardInfo
    source: str
    from_headers: tuple[str, ...]
    row_group_rows: int

    @classmethod
    def of(cls, plan: Plan, workspace: Workspace) -> "ShardAssembler":
        """The assembler of a plan."""
        collection = plan.collection
        return cls(workspace, plan.shards, plan.info, collection.source, collection.from_headers, plan.row_group_rows)

    def assemble(self, index: int) -> int:
        """Writes shard `index`, then its record, then deletes its blocks; holds one block in memory. Returns its
        images.

        Raises StorageError when it cannot be written, SourceError when an image has changed since it was judged.
        """
        shard = self.shards[index]
        if read_record(self.workspace, shard.name) is not None:
            return shard.num_images  # Ray runs a task again whose node died before it could say that it was done
        path = self.workspace.out / shard.name
        counts: dict[str, int] = {}
        num_kept = sum(pc.sum(self._selection(block)["keep"]).as_py() or 0 for block in shard.blocks)
        file = None
        if num_kept:
            with open_shard(path, self.info, self.row_group_rows) as writer:
                for block in shard.blocks:
                    rows, counted = self._rows(block)
                    writer.write(rows)
                    _add(counts, rows["sentences"].filter(counted))
            file = ShardFile(shard.name, shard.split, num_kept, path.stat().st_size, sha256_of(path))
        ShardRecord(file, dict(sorted(counts.items()))).save(self.workspace, shard.name)
        for block in shard.blocks:
            self.workspace.block(block).unlink(missing_ok=True)
        return shard.num_images

    def _selection(self, block: int) -> pa.Table:
        return read_aligned(self.workspace.selection, block)

    def _rows(self, block: int) -> tuple[pa.Table, pa.ChunkedArray]:
        """Kept rows of a block as they stand in the shard, and which of them count for the vocabulary."""
        selection = self._selection(block)
        images = read_aligned(self.workspace.plan_table, block).filter(selection["keep"])
        decoded = pq.read_table(self.workspace.block(block), columns=[*_FROM_BLOCK, *self.from_headers])
        decoded = decoded.filter(selection["keep"])
        if decoded["image"].null_count:
            raise SourceError(
                f"{decoded['image'].null_count} images that were readable before no longer are. "
                "Restore the collection, or delete the shard folder and ingest again."
            )
        columns: dict[str, Any] = {name: images[name] for name in (*_FROM_PLAN, *self.info.known_of_images)}
        columns |= {name: decoded[name] for name in _FROM_BLOCK}
        # a table was curated by whoever published it, a header was filled in at the device: it only fills gaps
        columns |= {name: pc.coalesce(images[name], decoded[name]) for name in self.from_headers}
        columns["source"] = pa.repeat(self.source, images.num_rows)
        rows = pa.table({name: columns[name] for name in self.info.arrow_schema().names})
        return rows, selection["counts_report"].filter(selection["keep"])


def _add(counts: dict[str, int], sentences: pa.ChunkedArray) -> None:
    tokens = pc.list_flatten(pc.list_flatten(sentences))
    for item in pc.value_counts(tokens).to_pylist():
        counts[item["values"]] = counts.get(item["values"], 0) + item["counts"]
