"""The shard contract: what one row of a shard is, and what its schema metadata says.

One row is one image. `image` is raw 8-bit gray, row-major, side_px * side_px bytes: a fixed-size binary column, because
Parquet decodes it an order of magnitude faster than JPEG and stores it without the blow-up of an int32 tensor column.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from emixer.errors import ShardError

SHARD_VERSION = 1
_METADATA_KEY = b"emixer"

ENGLISH = "en"
KNOWN_OF_IMAGES = {"sex": pa.string(), "age_years": pa.int16(), "manufacturer": pa.string()}
"""Columns that shards have where the source knows them of any image: F or M; whole years at the image's date."""
SEX_AND_AGE = ("sex", "age_years")
"""Those of them that DICOM headers may tell."""
HEADER_COLUMNS = {"view": pa.string(), **{name: KNOWN_OF_IMAGES[name] for name in SEX_AND_AGE}}
"""Columns that DICOM headers can fill in."""
OLDEST_YEARS = 120
"""Greater ages are errors of whoever wrote them down: unknown."""
SPLITS = ("train", "validate", "test")
SHARD_GLOB = "{split}-*.parquet"
MANIFEST_NAME = "manifest.json"
VOCABULARY_NAME = "vocabulary.json"
QUARANTINE_NAME = "quarantine.parquet"


@dataclass(frozen=True)
class ShardInfo:
    """What every shard of a dataset says of itself, in the Arrow schema metadata under `emixer`.

    label_names: order of the `labels` vector. section_rule: how findings were taken from a report, e.g.
    "findings-or-impression". tokenizer_version: changes whenever `sentences` would come out differently.
    report_language: reports in another language than English have no `sentences`, so that nothing reads or scores them.
    """

    side_px: int
    label_names: tuple[str, ...]
    section_rule: str
    tokenizer_version: int
    package_version: str
    shard_version: int = SHARD_VERSION
    report_language: str = ENGLISH
    known_of_images: tuple[str, ...] = ()
    """Those of KNOWN_OF_IMAGES that are columns here."""

    def arrow_schema(self) -> pa.Schema:
        """Columns of a shard with this metadata attached."""
        fields = [
            pa.field("dicom_id", pa.string(), nullable=False),
            pa.field("study_id", pa.string(), nullable=False),
            pa.field("subject_id", pa.string(), nullable=False),
            pa.field("view", pa.string()),
            pa.field("split", pa.string(), nullable=False),
            pa.field("image", pa.binary(self.side_px * self.side_px), nullable=False),
            pa.field("report", pa.string()),
            pa.field("sentences", pa.list_(pa.list_(pa.string()))),
            pa.field("labels", pa.list_(pa.int8(), len(self.label_names))),
            pa.field("source", pa.string(), nullable=False),
            *(pa.field(name, KNOWN_OF_IMAGES[name]) for name in self.known_of_images),
        ]
        return pa.schema(fields, metadata={_METADATA_KEY: json.dumps(asdict(self)).encode()})

    @classmethod
    def from_schema(cls, schema: pa.Schema, origin: Path) -> Self:
        """Reads the metadata back. Raises ShardError, naming `origin`, when `schema` is not a shard of this version."""
        raw = (schema.metadata or {}).get(_METADATA_KEY)
        if raw is None:
            raise ShardError(
                f"{origin} is a Parquet file but not an emixer shard (no `emixer` schema metadata). "
                "Expected a folder written by `emixer ingest`."
            )
        told = json.loads(raw)
        if told.get("shard_version") != SHARD_VERSION:
            raise ShardError(
                f"{origin} has shard version {told.get('shard_version')}, this emixer reads version {SHARD_VERSION}. "
                "Run `emixer ingest` again into a new folder."
            )
        unknown = told.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ShardError(
                f"{origin} is from a newer emixer: this one does not know {', '.join(sorted(unknown))}. "
                "Use the version that wrote it, or run `emixer ingest` again into a new folder."
            )
        for name in ("label_names", "known_of_images"):
            told[name] = tuple(told.get(name, ()))
        info = cls(**told)
        expected = info.arrow_schema()
        if not schema.equals(expected, check_metadata=False):
            wrong = [f.name for f in expected if f.name not in schema.names or schema.field(f.name).type != f.type]
            raise ShardError(
                f"{origin} does not follow the shard contract: columns {wrong or schema.names} differ. "
                "Run `emixer ingest` again into a new folder."
            )
        return info


def read_shard_info(path: Path) -> ShardInfo:
    """Opens one shard's footer. Raises ShardError for a corrupt file, another schema or another version."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(
            f"{path} cannot be read as Parquet ({type(error).__name__}): it is corrupt or cut short. "
            "Delete it and run the same `emixer ingest` command again; finished shards are kept."
        ) from error
    return ShardInfo.from_schema(schema, path)
