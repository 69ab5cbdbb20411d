"""What DICOM files show and their headers tell of patients, on its way into a shard."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emixer.config.ingest import ImageFolderSource, IngestConfig
from emixer.data.assemble_shard import ShardAssembler
from emixer.data.decode_block import BlockDecoder
from emixer.data.images import read_image
from emixer.data.plan import Workspace, make_plan
from emixer.data.schema import SEX_AND_AGE
from emixer.data.selection import decide
from emixer.data.sources import Collection
from emixer.data.sources.collection import image_table
from tests.data.dicom_files import dicom_file

SIDE_PX = 32
HEADERS = {"a": ("M", "061Y"), "b": ("M", "006M"), "c": ("O", "")}


def shard_of(folder: Path, from_headers: tuple[str, ...]) -> pa.Table:
    """Three DICOM images of one split, ingested step by step; a table gives the sex of `a` and the age of `c`."""
    for seed, (name, (sex, age)) in enumerate(HEADERS.items()):
        pixels = np.random.default_rng(seed).integers(0, 4096, (SIDE_PX, SIDE_PX), dtype=np.uint16)
        (folder / f"{name}.dcm").write_bytes(
            dicom_file(pixels, 12, PatientSex=sex, PatientAge=age, ViewPosition={"a": "AP", "b": "PA"}.get(name, "LL"))
        )
    ids = pa.array(list(HEADERS))
    images = image_table(
        1, dicom_id=ids, study_id=ids, subject_id=ids, split=pa.array(["train"] * 3),
        image_path=pa.array([f"{name}.dcm" for name in HEADERS]), labels=pa.nulls(3, pa.list_(pa.int8(), 1)),
        sex=pa.array(["F", None, None]), age_years=pa.array([None, None, 33], pa.int16()),
    )  # fmt: skip
    config = IngestConfig(source=ImageFolderSource(root=folder, label_csv=folder / "labels.csv"), side_px=SIDE_PX)
    plan = make_plan(Collection("test", images, ("Edema",), folder, from_headers=from_headers), config)
    workspace = Workspace(folder / "out")
    decoder = BlockDecoder(
        workspace, folder, None, SIDE_PX, "crop", "drop", has_reports=False, from_headers=from_headers
    )
    with workspace.opened(plan):
        assert [decoder.decode(block) for block in range(plan.num_blocks)] == [3]
        decide(plan, workspace, "drop")
        ShardAssembler.of(plan, workspace).assemble(0)
    return pq.read_table(workspace.out / plan.shards[0].name).sort_by("dicom_id")


def test_a_row_holds_the_pixels_of_its_own_file(tmp_path: Path) -> None:
    rows = shard_of(tmp_path, ())
    for name, pixels in zip(rows["dicom_id"].to_pylist(), rows["image"].to_pylist(), strict=True):
        assert pixels == read_image((tmp_path / f"{name}.dcm").read_bytes(), SIDE_PX, "crop").pixels_SS.tobytes(), name


def test_headers_fill_what_the_tables_leave_open(tmp_path: Path) -> None:
    rows = shard_of(tmp_path, SEX_AND_AGE)
    assert rows["sex"].to_pylist() == ["F", "M", None]
    assert rows["age_years"].to_pylist() == [61, 0, 33]


def test_view_of_a_header_is_ap_or_pa_where_the_collection_says_so(tmp_path: Path) -> None:
    assert shard_of(tmp_path, ("view",))["view"].to_pylist() == ["AP", "PA", None]


def test_nothing_of_a_patient_is_taken_from_headers_unless_the_collection_says_so(tmp_path: Path) -> None:
    rows = shard_of(tmp_path, ())
    assert rows["sex"].to_pylist() == ["F", None, None]
    assert rows["view"].null_count == 3
    assert rows["age_years"].to_pylist() == [None, None, 33]
