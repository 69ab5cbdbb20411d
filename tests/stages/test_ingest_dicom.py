"""`emixer ingest` of DICOM images: what is kept, what is listed, and that neither contains patient data."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from emixer.cli.main import main
from emixer.data.shards import ShardSet
from tests.data.dicom_files import SECRET, dicom_bytes, dicom_dataset, dicom_file, jpeg_lossless


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (48, 40), dtype=np.uint16)


def ingest(root: Path, out: Path) -> Result:
    arguments = ["--root", root, "--label-csv", root / "labels.csv", "--label-columns", "Edema", "--out", out]
    return CliRunner().invoke(main, ["ingest", "image-folder", "--side-px", "32", *map(str, arguments)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    ultrasound = dicom_file(image(4), 12, Modality="US")
    files = {
        "native.dcm": dicom_file(image(1), 12, **window),
        "lossless.dcm": dicom_bytes(jpeg_lossless(dicom_dataset(image(2), 12, **window))),
        "marked.dicom": dicom_file(image(3), 12, BurnedInAnnotation="YES"),
        "ultrasound.dcm": ultrasound,
        "state.dcm": dicom_file(image(5), 12, Modality="PR", PixelData=None),
        "report.dcm": dicom_file(image(6), 12, Modality="SR", PixelData=None),
        "no-pixels.dcm": dicom_file(image(7), 12, PixelData=None),
        "frames.dcm": dicom_file(image(8), 12, NumberOfFrames=2, Rows=24),
        "cut.dcm": dicom_file(image(9), 12)[:2000],
        "same.dcm": dicom_file(image(1), 12, **window, StudyDescription="again"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "labels.csv").write_text("image,Edema\n" + "".join(f"{name},1\n" for name in files))
    return tmp_path


@pytest.mark.ray
def test_dicom_images_are_ingested_and_other_files_listed_without_header_text(
    root: Path, tmp_path: Path, ray_cluster: None
) -> None:
    out = tmp_path / "shards"
    result = ingest(root, out)
    assert result.exit_code == 0, result.output
    shards = ShardSet.open(out)
    kept = {i for split in shards.splits for p in shards.files(split) for i in pq.read_table(p)["dicom_id"].to_pylist()}
    assert kept - {"same.dcm", "native.dcm"} == {"lossless.dcm", "marked.dicom"}
    assert len(kept) == 3
    listed = {row["path"]: row["reason"] for row in pq.read_table(out / "quarantine.parquet").to_pylist()}
    duplicate = listed.pop("same.dcm", None) or listed.pop("native.dcm")
    assert duplicate.startswith("same pixels")
    assert listed == {
        "marked.dicom": "annotation is burnt in, says its header; image kept",
        "ultrasound.dcm": "DICOM is not a radiograph (modality US)",
        "state.dcm": "DICOM is a presentation state, not an image",
        "report.dcm": "DICOM is not a radiograph (modality SR)",
        "no-pixels.dcm": "DICOM holds no pixels, or is cut short before them",
        "frames.dcm": "multi-frame DICOM",
        "cut.dcm": "DICOM is damaged or cut short",
    }
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kept_with_remark"] == {"annotation is burnt in, says its header; image kept": 1}
    assert manifest["images_selected"] == len(kept) + sum(sum(each.values()) for each in manifest["left_out"].values())
    assert manifest["gray_range_rules"][1].startswith("DICOM: rescale or modality table, then the first VOI table")
    secrets = (SECRET.encode(), b"19511231")
    assert not any(secret in path.read_bytes() for path in out.rglob("*") if path.is_file() for secret in secrets)
    assert SECRET not in result.output


def test_ingest_without_the_dicom_extra_fails_before_it_starts(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emixer.data.dicom.find_spec", lambda name: None)
    result = ingest(root, tmp_path / "shards")
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith("Error: Ingest of image-folder, whose images are DICOM files, needs packages that are not")
    assert line.endswith("Run `pip install '.[dicom]'` in a clone of emixer.")
    assert not (tmp_path / "shards").exists()
