"""manifest.json, vocabulary.json and quarantine.parquet: what a finished ingest says of itself.

All three are pure functions of the plan, the selection and the shards' records: byte-identical whatever the number of
workers and restarts. None holds report text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emixer.config.ingest import IngestConfig
from emixer.data.assemble_shard import ShardRecord
from emixer.data.dicom import DICOM_RULE
from emixer.data.gray_range import GRAY_RANGE_RULE
from emixer.data.patients import patients_of_tokens
from emixer.data.plan import Plan, Workspace, read_columns
from emixer.data.schema import MANIFEST_NAME, QUARANTINE_NAME, SPLITS, VOCABULARY_NAME
from emixer.data.shards import ShardFile
from emixer.data.sorted_keys import num_distinct
from emixer.data.sources import Collection
from emixer.data.vocabulary import Vocabulary
from emixer.files import write_json, written_aside

DUPLICATE_RULE = (
    "Images with identical pixels in the shards are one image: one of test stays before one of "
    "validate before one of train, then the first dicom_id in alphabetical order."
)
_QUARANTINE_SCHEMA = pa.schema(
    [("path", pa.string()), ("stage", pa.string()), ("reason", pa.string()), ("kept", pa.bool_())]
)


def write_manifest(
    plan: Plan, workspace: Workspace, records: Sequence[ShardRecord], config: IngestConfig
) -> dict[str, Any]:
    """Writes the three files, the manifest last, since it makes the folder a finished one. Returns the manifest."""
    collection = plan.collection
    selection = read_columns(workspace.selection, ("keep", "stage", "reason", "outcome"))
    quarantine = _quarantine(workspace, collection, selection)
    counts: Counter[str] = Counter()
    for record in records:
        counts.update(record.token_counts)
    train = [workspace.out / file.name for file in _files_of(records, "train")]
    vocabulary = Vocabulary.from_counts(_common(counts, train, config.min_token_patients), config.min_token_count)
    vocabulary.save(workspace.out / VOCABULARY_NAME)
    with written_aside(workspace.out / QUARANTINE_NAME) as aside:
        pq.write_table(quarantine, aside, compression="zstd")
    kept = workspace.columns("split", "study_id", "subject_id", "labels").filter(selection["keep"])
    manifest = {
        "shard_version": plan.info.shard_version,
        "package_version": plan.info.package_version,
        "fingerprint": plan.fingerprint,
        "settings": plan.settings,
        "info": asdict(plan.info),
        "duplicate_rule": DUPLICATE_RULE,
        "gray_range_rules": [GRAY_RANGE_RULE, DICOM_RULE],
        "splits": {split: split_counts(kept, split, _files_of(records, split)) for split in SPLITS},
        "labels": {split: label_counts(kept, split, collection.label_names) for split in SPLITS},
        "reports": {split: _report_counts(kept, selection, split) for split in SPLITS},
        "images_selected": plan.num_planned,
        "not_selected": dict(collection.not_selected),
        "left_out": _counts_by_stage(quarantine.filter(pc.invert(quarantine["kept"]))),
        "kept_with_remark": _counts(quarantine["reason"].filter(quarantine["kept"])),
        "remarks": dict(collection.remarks),
        "unmapped_labels": dict(collection.unmapped_labels),
        "vocabulary": _vocabulary_counts(vocabulary, counts),
        "shards": [asdict(record.file) for record in records if record.file is not None],
    }
    write_json(workspace.out / MANIFEST_NAME, manifest)
    return manifest


def _common(counts: Mapping[str, int], train: Sequence[Path], min_patients: int) -> dict[str, int]:
    """Counts of the tokens that stand in the reports of so many patients."""
    if min_patients == 1:
        return dict(counts)
    patients = patients_of_tokens(train, list(counts))
    return {token: count for (token, count), num in zip(counts.items(), patients, strict=True) if num >= min_patients}


def _quarantine(workspace: Workspace, collection: Collection, selection: pa.Table) -> pa.Table:
    listed = pc.is_valid(selection["stage"])
    images = pa.table(
        [
            workspace.columns("image_path")["image_path"].filter(listed),
            selection["stage"].filter(listed),
            selection["reason"].filter(listed),
            selection["keep"].filter(listed),
        ],
        schema=_QUARANTINE_SCHEMA,
    )
    rows = [row._asdict() | {"kept": False} for row in collection.left_out]
    from_tables = pa.Table.from_pylist(rows, schema=_QUARANTINE_SCHEMA)
    return pa.concat_tables([from_tables, images]).sort_by([("path", "ascending")])


def _files_of(records: Sequence[ShardRecord], split: str) -> list[ShardFile]:
    return [record.file for record in records if record.file is not None and record.file.split == split]


def split_counts(images: pa.Table, split: str, files: Sequence[ShardFile]) -> dict[str, int]:
    """Number of images, studies, subjects, shards and bytes of a split. files: its shards."""
    images = images.filter(pc.equal(images["split"], split))
    return {
        "images": images.num_rows,
        "studies": num_distinct(images["study_id"]),
        "subjects": num_distinct(images["subject_id"]),
        "shards": len(files),
        "bytes": sum(file.num_bytes for file in files),
    }


def label_counts(images: pa.Table, split: str, names: Sequence[str]) -> dict[str, Any]:
    """Images of a split by value of each label; those without any label vector count once, as `unlabelled_images`."""
    vectors = images["labels"].filter(pc.equal(images["split"], split))
    given = vectors.drop_null().combine_chunks()
    values = given.flatten().cast(pa.int16()).fill_null(2).to_numpy(zero_copy_only=False).reshape(-1, len(names))
    counts = {
        name: {
            key: int(np.count_nonzero(values[:, y] == value))
            for key, value in (("present", 1), ("absent", 0), ("uncertain", -1), ("not_mentioned", 2))
        }
        for y, name in enumerate(names)
    }
    return {"unlabelled_images": vectors.null_count, "names": counts}


def _report_counts(kept: pa.Table, selection: pa.Table, split: str) -> dict[str, int]:
    outcomes = selection["outcome"].filter(selection["keep"]).filter(pc.equal(kept["split"], split))
    return _counts(outcomes)


def _counts_by_stage(left_out: pa.Table) -> dict[str, dict[str, int]]:
    stages = sorted(left_out["stage"].unique().to_pylist())
    return {stage: _counts(left_out["reason"].filter(pc.equal(left_out["stage"], stage))) for stage in stages}


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    items = sorted(values.value_counts().to_pylist(), key=lambda item: (-item["counts"], item["values"]))
    return {item["values"]: item["counts"] for item in items}


def _vocabulary_counts(vocabulary: Vocabulary, counts: Counter[str]) -> dict[str, int]:
    return {
        "tokens": len(vocabulary),
        "distinct_tokens_in_train": len(counts),
        "token_occurrences_in_train": counts.total(),
        "unknown_occurrences_in_train": counts.total() - sum(vocabulary.counts),
    }
