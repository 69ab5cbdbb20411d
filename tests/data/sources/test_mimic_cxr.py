"""Joining the tables of MIMIC-CXR-JPG. What is wrong with them is tested through the command, in tests/stages."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer.config.ingest import MimicCxrSource
from emixer.data.labels import CHEXPERT
from emixer.data.schema import KNOWN_OF_IMAGES
from emixer.data.sources import read_collection
from emixer.errors import SourceError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    tables = {
        "metadata": [
            "dicom_id,subject_id,study_id,ViewPosition", "a-1,10000032,50414267,PA", "a-2,10000032,50414267,AP",
            "a-3,10000032,50414267,LATERAL", "b-1,19000001,58000001,", "c-1,11000001,51000001,PA",
        ],
        "split": ["dicom_id,study_id,subject_id,split", "b-1,58000001,19000001,test", "a-1,50414267,10000032,train",
                  "a-2,50414267,10000032,train", "a-3,50414267,10000032,train"],
        "chexpert": [",".join(("subject_id", "study_id", *CHEXPERT)), "10000032,50414267,1.0" + "," * 12 + ",-1.0"],
        "negbio": [",".join(("subject_id", "study_id", *CHEXPERT)), "10000032,50414267,0.0" + "," * 13],
    }  # fmt: skip
    for name, lines in tables.items():
        path = tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz"
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


def test_tables_are_joined_whatever_their_order(root: Path) -> None:
    collection = read_collection(MimicCxrSource(root=root))
    assert collection.images.to_pylist()[1] == {
        "dicom_id": "a-2", "study_id": "50414267", "subject_id": "10000032", "view": "AP", "split": "train",
        "image_path": "files/p10/p10000032/s50414267/a-2.jpg", "report_path": "files/p10/p10000032/s50414267.txt",
        "report": None, "labels": [1, *[None] * 12, -1], **dict.fromkeys(KNOWN_OF_IMAGES),
    }  # fmt: skip
    assert collection.not_selected == {"of view LATERAL": 1, "of view not given": 1}


def test_images_without_a_view_and_other_views_are_kept_on_request(root: Path) -> None:
    images = read_collection(MimicCxrSource(root=root, views=("LATERAL",), keep_missing_view=True)).images
    assert images["dicom_id"].to_pylist() == ["a-3", "b-1"]
    assert images["labels"].to_pylist()[1] is None


def test_an_image_without_an_official_split_is_left_out_by_name(root: Path) -> None:
    left_out = read_collection(MimicCxrSource(root=root)).left_out
    assert [tuple(item) for item in left_out] == [
        ("files/p11/p11000001/s51000001/c-1.jpg", "table", "image is not in the split table")
    ]


def test_the_other_labeler_is_read_from_its_own_table(root: Path) -> None:
    images = read_collection(MimicCxrSource(root=root, labeler="negbio")).images
    assert images["labels"].to_pylist()[0] == [0, *[None] * 13]


def test_reports_may_be_unpacked_elsewhere_or_below_the_root(root: Path, tmp_path: Path) -> None:
    assert read_collection(MimicCxrSource(root=root)).reports_root == root
    (root / "mimic-cxr-reports/files").mkdir(parents=True)
    assert read_collection(MimicCxrSource(root=root)).reports_root == root / "mimic-cxr-reports"
    with pytest.raises(SourceError, match=r"reports_root=.* holds no folder `files`"):
        read_collection(MimicCxrSource(root=root, reports_root=tmp_path / "elsewhere"))


def test_the_phantoms_truth_is_read_image_by_image(root: Path) -> None:
    with pytest.raises(SourceError, match="the ground truth written by `emixer phantom`"):
        read_collection(MimicCxrSource(root=root, labeler="factors"))
    images = ["b-1", "a-2", "a-1"]
    truth = {f"true_{name.lower().replace(' ', '_')}": [False] * 3 for name in CHEXPERT}
    truth["true_pleural_effusion"], truth["true_no_finding"] = [True, False, True], [False, True, False]
    pq.write_table(pa.table({"dicom_id": images, **truth}), root / "factors.parquet")
    read = read_collection(MimicCxrSource(root=root, labeler="factors")).images
    effusion, no_finding = CHEXPERT.index("Pleural Effusion"), CHEXPERT.index("No Finding")
    labels = dict(zip(read["dicom_id"].to_pylist(), read["labels"].to_pylist(), strict=True))
    assert [labels[image][effusion] for image in ("a-1", "a-2")] == [1, 0]
    assert [labels[image][no_finding] for image in ("a-1", "a-2")] == [0, 1]
    assert all(sum(row) == 1 for row in labels.values())


def test_sex_and_age_come_from_mimic_ivs_patients(root: Path) -> None:
    metadata = [
        "dicom_id,subject_id,study_id,ViewPosition,StudyDate", "a-1,10000032,50414267,PA,21800506",
        "a-2,10000032,50414267,LATERAL,21830101", "b-1,19000001,58000001,PA,21000101",
        "a-3,10000032,50414268,PA,21271231",
    ]  # fmt: skip
    (root / "mimic-cxr-2.0.0-metadata.csv.gz").write_bytes(gzip.compress("\n".join(metadata).encode()))
    patients = root / "patients.csv.gz"
    patients.write_bytes(
        gzip.compress(
            b"subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod\n"
            b"10000032,F,52,2180,2014 - 2016,\n12345678,M,60,2150,2011 - 2013,\n"
        )
    )
    images = read_collection(MimicCxrSource(root=root, patients=patients, views=("PA", "LATERAL"))).images
    assert images["dicom_id"].to_pylist() == ["a-1", "a-2", "b-1", "a-3"]
    assert images["sex"].to_pylist() == ["F", "F", None, "F"]
    assert images["age_years"].to_pylist() == [52, 55, None, None]  # 52 in 2180, which is -1 in 2127
    with pytest.raises(SourceError, match=r"ingest\.source\.patients=.* does not exist"):
        read_collection(MimicCxrSource(root=root, patients=root / "none.csv"))
    patients.write_bytes(gzip.compress(b"subject_id,gender,anchor_age,anchor_year\n12345678,M,60,2150\n"))
    with pytest.raises(SourceError, match="has none of these patients"):
        read_collection(MimicCxrSource(root=root, patients=patients))
