"""The phantom stage on a real Ray cluster: what it writes, and that it writes it once."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emixer.config import Config, load_config
from emixer.data.labels import CHEXPERT
from emixer.data.phantom.collection import PhantomCollection, finish, write_block
from emixer.data.phantom.study import Settings
from emixer.errors import ConfigError, RunFolderError
from emixer.stages import phantom
from tests.answers import answer_of

pytestmark = pytest.mark.ray

STUDIES = 20


def config(out: Path, **settings: object) -> Config:
    values = {"studies": STUDIES, "height_px": 96, "broken_files": 8, "duplicate_fraction": 0.2, **settings}
    return load_config(extra={"seed": 4, "phantom.out": out, **{f"phantom.{k}": v for k, v in values.items()}})


def contents(folder: Path) -> dict[str, str]:
    """Return the relative path and digest of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tree"
    phantom.run(config(out, studies_per_task=3))
    return out


def test_tree_does_not_depend_on_task_size_or_ray(tree: Path, tmp_path: Path) -> None:
    phantom.run(config(tmp_path / "ray", studies_per_task=7))
    assert contents(tmp_path / "ray") == contents(tree)
    alone = PhantomCollection(tmp_path / "alone", STUDIES, Settings(4, 96, 0.2), broken_files=8)
    alone.begin()
    write_block(alone, 0, STUDIES)
    finish(alone)
    assert contents(tmp_path / "alone") == contents(tree)


def test_study_is_the_same_in_a_collection_of_any_size(tmp_path: Path, ray_cluster: None) -> None:
    for studies in (6, 11):
        phantom.run(config(tmp_path / str(studies), studies=studies, broken_files=0))
    small, large = contents(tmp_path / "6"), contents(tmp_path / "11")
    images = {name: digest for name, digest in small.items() if name.startswith("files/")}
    assert len(images) > 12
    assert images.items() <= large.items()
    labels = [pd.read_csv(tmp_path / n / "mimic-cxr-2.0.0-chexpert.csv.gz") for n in ("6", "11")]
    pd.testing.assert_frame_equal(labels[0], labels[1].head(6))


def test_tables_have_the_published_headers_and_describe_the_files(tree: Path) -> None:
    labels = pd.read_csv(tree / "mimic-cxr-2.0.0-chexpert.csv.gz")
    assert list(labels.columns) == ["subject_id", "study_id", *CHEXPERT]
    assert set(np.unique(labels[list(CHEXPERT)].to_numpy())) - {np.nan} >= {0.0, 1.0}
    metadata = pd.read_csv(tree / "mimic-cxr-2.0.0-metadata.csv.gz")
    assert ",".join(metadata.columns) == (
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
        "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
    )
    split = pd.read_csv(tree / "mimic-cxr-2.0.0-split.csv.gz")
    assert list(split.columns) == ["dicom_id", "study_id", "subject_id", "split"]
    assert set(split["dicom_id"]) == {path.stem for path in tree.rglob("*.jpg")}
    broken = set(pd.read_csv(tree / "broken.csv")["path"])
    for row in metadata.itertuples():
        path = Path(f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}/s{row.study_id}/{row.dicom_id}.jpg")
        if str(path) not in broken:
            with Image.open(tree / path) as image:
                assert (image.mode, image.size) == ("L", (row.Columns, row.Rows))


def test_checksums_cover_every_image_and_report(tree: Path) -> None:
    lines = dict(reversed(line.split("  ")) for line in (tree / "SHA256SUMS.txt").read_text().splitlines())
    found = {name: digest for name, digest in contents(tree).items() if name.startswith("files/")}
    assert found.items() <= lines.items()
    assert lines["factors.parquet"] == contents(tree)["factors.parquet"]


def test_duplicates_are_byte_identical_and_named_in_the_factors(tree: Path) -> None:
    factors = pq.read_table(tree / "factors.parquet").to_pylist()
    copies = [row for row in factors if row["duplicate_of"]]
    assert copies
    digests = {Path(name).stem: digest for name, digest in contents(tree).items() if name.endswith(".jpg")}
    damaged = {row["dicom_id"] for row in factors if row["damage"]}
    for row in copies:
        if row["duplicate_of"] not in damaged:
            assert digests[row["dicom_id"]] == digests[row["duplicate_of"]]


def test_broken_files_are_listed_and_broken_as_described(tree: Path) -> None:
    broken = {row.damage: tree / row.path for row in pd.read_csv(tree / "broken.csv").itertuples()}
    assert broken["empty image"].stat().st_size == 0
    with pytest.raises(OSError, match="truncated"), Image.open(broken["truncated image"]) as image:
        image.load()
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(broken["image is not an image"])
    with Image.open(broken["image is a 16-bit PNG"]) as image:
        assert (image.format, image.mode) == ("PNG", "I;16")
    with Image.open(broken["image is an RGB JPEG"]) as image:
        assert image.mode == "RGB"
    assert not broken["missing report"].exists()
    with pytest.raises(UnicodeDecodeError):
        broken["report is not UTF-8"].read_text(encoding="utf-8")
    labelled = pd.read_csv(tree / "mimic-cxr-2.0.0-chexpert.csv.gz")["study_id"].astype(str)
    assert broken["no label row"].stem.removeprefix("s") not in set(labelled)
    assert len(labelled) == STUDIES - 1


def test_factors_hold_the_ground_truth_of_every_image(tree: Path) -> None:
    factors = pq.read_table(tree / "factors.parquet").to_pandas()
    assert len(factors) == len(list(tree.rglob("*.jpg")))
    assert factors["cardiothoracic_ratio"].between(0.3, 0.8).all()
    fluid = factors["effusion_left_cm"] + factors["effusion_right_cm"] > 0
    assert (fluid == factors["true_pleural_effusion"]).all()
    labels = pd.read_csv(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", dtype={"study_id": str}).set_index("study_id")
    joined = factors[factors["study_id"].isin(labels.index)]
    published = labels.loc[joined["study_id"], "Pleural Effusion"].to_numpy()
    np.testing.assert_array_equal(joined["stated_pleural_effusion"].to_numpy(dtype=float), published)


def test_interrupted_run_resumes_and_writes_nothing_twice(tree: Path, tmp_path: Path, ray_cluster: None) -> None:
    out = tmp_path / "resumed"
    half = PhantomCollection(out, STUDIES, Settings(4, 96, 0.2), broken_files=8)
    half.begin()
    write_block(half, 6, 12)
    first = sorted((path for path in out.rglob("*.jpg")), key=str)
    before = {path: path.stat().st_mtime_ns for path in first}
    assert "12 of" not in phantom.describe(config(out))
    assert f"Would write {STUDIES - 6} of {STUDIES} studies" in phantom.describe(config(out))
    phantom.run(config(out, studies_per_task=4))
    assert {path: path.stat().st_mtime_ns for path in first} == before
    assert contents(out) == contents(tree)


def test_finished_collection_is_left_alone(tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    result = phantom.run(config(tree))
    assert answer_of(result)["outcome"] == "nothing to do"
    assert "already complete" in str(result)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before
    assert "Nothing would be written" in phantom.describe(config(tree))


def test_summary_counts_patients_studies_images_and_labels(tree: Path) -> None:
    result = phantom.run(config(tree))
    assert sum(studies for _, studies, _ in result.splits.values()) == STUDIES
    assert sum(images for _, _, images in result.splits.values()) == len(list(tree.rglob("*.jpg")))
    assert all(sum(counts.values()) == STUDIES for counts in result.labels.values())
    told = answer_of(result)["figures"]
    assert sum(split["studies"] for split in told["splits"].values()) == STUDIES
    assert all(sum(counts.values()) == STUDIES for counts in told["labels"].values())
    assert f"emixer ingest mimic-cxr --config demo --root {tree}" in str(result)


def test_folder_of_another_phantom_is_refused(tree: Path) -> None:
    with pytest.raises(RunFolderError, match="height_px=96"):
        phantom.describe(config(tree, height_px=128))


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not a phantom"):
        phantom.run(config(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_more_broken_files_than_studies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"broken_files=30.*studies=20"):
        phantom.describe(config(tmp_path / "new", broken_files=30))


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    text = phantom.describe(config(tmp_path / "new"))
    assert f"{STUDIES} of {STUDIES} studies" in text
    assert not (tmp_path / "new").exists()


def test_record_names_everything_that_determines_the_bytes(tree: Path) -> None:
    record = json.loads((tree / "phantom.json").read_text())
    assert record == {
        "studies": STUDIES, "seed": 4, "height_px": 96, "duplicate_fraction": 0.2, "validate_fraction": 0.1,
        "test_fraction": 0.1, "broken_files": 8, "layout": "mimic-cxr-jpg", "drawing_version": 2, "layout_version": 1,
        "complete": True,
    }  # fmt: skip
