"""The Indiana layout: XML reports, images by image id, gold labels."""

import os
from pathlib import Path

import pytest

from emixer.config.ingest import OpenISource
from emixer.data.labels import NIH14
from emixer.data.sources import read_collection
from emixer.errors import SourceError

GOLD = [f"gold_{name}" for name in NIH14]


def xml(study: str, sections: dict[str, str], image_ids: list[str]) -> str:
    texts = "".join(f'<AbstractText Label="{name}">{text}</AbstractText>' for name, text in sections.items())
    named = "".join(f'<parentImage id="{image_id}"/>' for image_id in image_ids)
    return f'<eCitation><uId id="{study}"/><Abstract>{texts}</Abstract>{named}</eCitation>'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Studies 1 (frontal and lateral), 2 (no findings), 3 (no image on disk); image c is in no report."""
    reports, images = tmp_path / "ecgen-radiology", tmp_path / "images"
    reports.mkdir()
    images.mkdir()
    (reports / "1.xml").write_text(xml("CXR1", {"FINDINGS": "Clear &amp; dry.", "IMPRESSION": "Fine."}, ["a", "a2"]))
    (reports / "2.xml").write_text(xml("CXR2", {"INDICATION": "Cough.", "FINDINGS": ""}, ["b"]))
    (reports / "3.xml").write_text(xml("CXR3", {"FINDINGS": "Clear."}, ["gone"]))
    for name in ("a.png", "a2.png", "b.jpg", "c.png"):
        (images / name).write_bytes(b"image")
    return tmp_path


def write_labels(root: Path, header: list[str], rows: list[str]) -> None:
    (root / "labels.csv").write_text("\n".join([",".join(header), *rows]) + "\n")


def read(root: Path, **settings: object) -> dict[str, dict[str, object]]:
    images = read_collection(OpenISource(root=root, **settings)).images.to_pylist()
    return {image["dicom_id"]: image for image in images}


def test_without_a_label_table_every_image_of_a_report_is_selected(root: Path) -> None:
    images = read(root)
    assert set(images) == {"a", "a2", "b", "gone"}
    assert images["a"]["study_id"] == images["a2"]["subject_id"] == "CXR1"
    assert images["a"]["split"] == images["a2"]["split"]
    assert images["a"]["report"] == "FINDINGS:\nClear & dry.\n\nIMPRESSION:\nFine."
    assert images["b"]["image_path"] == "images/b.jpg"
    assert images["a"]["labels"] is None


def test_with_a_label_table_its_images_are_selected_with_split_and_labels(root: Path) -> None:
    write_labels(root, ["dicom_id", "split", *GOLD], ["a,train,1" + ",0" * 13, "c,validate" + ",0" * 14])
    collection = read_collection(OpenISource(root=root))
    images = {image["dicom_id"]: image for image in collection.images.to_pylist()}
    assert images["a"]["labels"] == [1] + [0] * 13
    assert (images["a"]["split"], images["c"]["split"]) == ("train", "validate")
    assert (images["c"]["report"], images["c"]["study_id"]) == (None, "c")
    assert collection.not_selected == {"not in the label table": 3}
    assert collection.remarks == {"reports without a selected image": 2}


def test_images_of_a_study_share_a_split_whatever_the_label_table_leaves_open(root: Path) -> None:
    for study in range(10, 30):
        (root / "ecgen-radiology" / f"{study}.xml").write_text(xml(f"CXR{study}", {}, [f"{study}f", f"{study}l"]))
    settings = {"validate_fraction": 0.3, "test_fraction": 0.3}
    images = read(root, **settings)
    of_study = [{images[f"{study}{view}"]["split"] for view in "fl"} for study in range(10, 30)]
    assert all(len(splits) == 1 for splits in of_study)
    assert set.union(*of_study) == {"train", "validate", "test"}
    (here,), (elsewhere, *_) = of_study[0], [split for split in ("train", "test") if split not in of_study[0]]
    write_labels(root, ["dicom_id", "split"], ["10f,", "10l,", f"11f,{elsewhere}", f"11l,{elsewhere}"])
    images = read(root, **settings)
    assert [images[image]["split"] for image in ("10f", "10l", "11f", "11l")] == [here] * 2 + [elsewhere] * 2
    write_labels(root, ["dicom_id", "split"], [f"10f,{elsewhere}", "10l,"])
    with pytest.raises(SourceError, match="1 subjects have images in more than one split"):
        read(root, **settings)


def test_a_report_that_is_a_pipe_is_left_out_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "ecgen-radiology/9.xml")
    assert [tuple(item) for item in read_collection(OpenISource(root=root)).left_out] == [
        ("ecgen-radiology/9.xml", "report", "report is not a regular file")
    ]


def test_a_report_that_is_not_xml_is_left_out_and_the_others_are_read(root: Path) -> None:
    (root / "ecgen-radiology/2.xml").write_text("<eCitation>")
    collection = read_collection(OpenISource(root=root))
    assert [tuple(item) for item in collection.left_out] == [
        ("ecgen-radiology/2.xml", "report", "report is not well-formed XML")
    ]
    assert collection.images.num_rows == 3


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["dicom_id", *GOLD[1:]], "a" + ",0" * 13, "no column 'gold_Atelectasis'"),
        (["dicom_id", *GOLD, "gold_Lump"], "a" + ",0" * 15, "unknown column 'gold_Lump'"),
        (["dicom_id", *GOLD], "a,2" + ",0" * 13, "row 2, column 'gold_Atelectasis': the label is '2'"),
        (["dicom_id", "split"], "a,dev", "row 2: split is 'dev'"),
        (["image"], "a", "no column 'dicom_id'"),
    ],
)
def test_a_wrong_label_table_is_refused(root: Path, header: list[str], row: str, message: str) -> None:
    write_labels(root, header, [row])
    with pytest.raises(SourceError, match=message):
        read(root)


def test_two_reports_that_claim_one_image_are_refused(root: Path) -> None:
    (root / "ecgen-radiology/4.xml").write_text(xml("CXR4", {}, ["a"]))
    with pytest.raises(SourceError, match="claim the same study or image"):
        read(root)


def test_a_folder_of_another_layout_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no folder `ecgen-radiology`"):
        read(tmp_path)


def test_views_that_the_label_table_names_are_chosen_among(root: Path) -> None:
    write_labels(root, ["dicom_id", "view"], ["a,Frontal", "a2,Lateral", "b,frontal"])
    assert set(read(root)) == {"a", "a2", "b"}
    chosen = read(root, views=("Frontal",))
    assert {name: image["view"] for name, image in chosen.items()} == {"a": "Frontal", "b": "Frontal"}
    (root / "labels.csv").unlink()
    with pytest.raises(SourceError, match=r"ingest\.source\.views=Frontal, but the collection does not record views"):
        read(root, views=("Frontal",))
