"""The digest of a table without a copy of it."""

import hashlib

import pyarrow as pa
import pytest

from emixer.data.sources.collection import image_table
from emixer.data.table_digest import update_with


@pytest.mark.parametrize("num_rows", [0, 1, 3000])
def test_it_is_that_of_the_serialized_batch(num_rows: int) -> None:
    ids = pa.array([f"image-{n}" for n in range(num_rows)])
    labels = pa.array([[1, None] if n % 3 else None for n in range(num_rows)], pa.list_(pa.int8(), 2))
    table = image_table(
        2, dicom_id=ids, study_id=ids, report=pa.array(["é" * (n % 5) for n in range(num_rows)]), labels=labels
    )
    batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)
    digest = hashlib.blake2b()
    update_with(digest, batch)
    assert digest.hexdigest() == hashlib.blake2b(batch.serialize()).hexdigest()
