"""The published collections: images, splits, labels worked out by hand, and tables of other versions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emixer.config.ingest import (
    BraxSource,
    ChexpertSource,
    MimicCxrSource,
    NihCxr14Source,
    PadChestSource,
    RsnaPneumoniaSource,
    VindrCxrSource,
)
from emixer.data.labels import CHEXPERT, NIH14, VINDR28
from emixer.data.padchest_labels import PADCHEST_LABELS
from emixer.data.sources import Collection, read_collection
from emixer.errors import SourceError


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def rows(collection: Collection) -> dict[str, dict[str, object]]:
    return {row["dicom_id"]: row for row in collection.images.to_pylist()}


def present(collection: Collection, image: str) -> set[str] | None:
    labels = rows(collection)[image]["labels"]
    if labels is None:
        return None
    assert isinstance(labels, list)
    assert set(labels) <= {0, 1}
    return {name for name, value in zip(collection.label_names, labels, strict=True) if value}


# ---------------------------------------------------------------- NIH ChestX-ray14

NIH_2017 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
NIH_2020 = NIH_2017.replace("Gender", "Sex").removesuffix(",")


def nih(folder: Path) -> Path:
    write(
        folder, "Data_Entry_2017.csv", NIH_2017,
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        "00000002_000.png,No Finding,0,2,058Y,M,AP,2682,2749,0.143,0.143,",
        "00000003_000.png,Hernia,0,3,058Y,F,LL,2682,2749,0.143,0.143,",
        "00000004_000.png,Mass,0,4,058Y,F,PA,2682,2749,0.143,0.143,",
    )  # fmt: skip
    write(folder, "train_val_list.txt", "00000001_000.png", "00000003_000.png")
    write(folder, "test_list.txt", "00000002_000.png")
    write(folder, "images_002/images/00000001_000.png", "an image")
    return folder


def test_nih_takes_the_official_lists_and_finds_images_in_the_folders_of_the_archives(tmp_path: Path) -> None:
    collection = read_collection(NihCxr14Source(root=nih(tmp_path), validate_fraction=0))
    assert collection.source == "nih-cxr14"
    assert collection.label_names == NIH14
    assert rows(collection).keys() == {"00000001_000.png", "00000002_000.png"}
    assert rows(collection)["00000001_000.png"] | {"labels": None} == {
        "dicom_id": "00000001_000.png", "study_id": "00000001_000.png", "subject_id": "1", "view": "PA",
        "split": "train", "image_path": "images_002/images/00000001_000.png", "report_path": None, "report": None,
        "labels": None, "sex": "M", "age_years": 58, "manufacturer": None,
    }  # fmt: skip
    assert present(collection, "00000001_000.png") == {"Cardiomegaly", "Emphysema"}
    assert present(collection, "00000002_000.png") == set()
    assert rows(collection)["00000002_000.png"]["split"] == "test"
    assert collection.not_selected == {"of view LL": 1}
    assert [tuple(item) for item in collection.left_out] == [
        ("images/00000004_000.png", "table", "image is in neither official list")
    ]


def test_nih_without_the_lists_is_split_by_a_hash_and_says_so(tmp_path: Path) -> None:
    root = nih(tmp_path)
    (root / "test_list.txt").unlink()
    with pytest.raises(SourceError, match=r"has train_val_list\.txt but not the other list"):
        read_collection(NihCxr14Source(root=root))
    (root / "train_val_list.txt").unlink()
    collection = read_collection(NihCxr14Source(root=root, validate_fraction=0, test_fraction=0))
    assert set(collection.images["split"].to_pylist()) == {"train"}
    assert collection.remarks == {"images split by hash, since the official lists are missing": 3}


def test_nih_of_2020_is_read_alike(tmp_path: Path) -> None:
    root = nih(tmp_path)
    (root / "Data_Entry_2017.csv").unlink()
    write(root, "Data_Entry_2017_v2020.csv", NIH_2020, "00000001_000.png,Mass|Nodule,0,1,58,M,PA,1,2,0.1,0.1")
    assert present(read_collection(NihCxr14Source(root=root)), "00000001_000.png") == {"Mass", "Nodule"}


# ---------------------------------------------------------------- CheXpert

CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


def chexpert(folder: Path, archive: str = "CheXpert-v1.0-small") -> Path:
    write(
        folder, "train.csv", CHEXPERT_HEADER,
        f"{archive}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,,,1.0,0.0,-1.0,,,,,,,,,1.0",
        f"{archive}/train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,,,1.0,0.0,-1.0,,,,,,,,,1.0",
    )  # fmt: skip
    write(
        folder, "valid.csv", CHEXPERT_HEADER,
        f"{archive}/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA" + ",1.0" + ",0.0" * 13,
    )  # fmt: skip
    return folder


def test_frontal_images_of_chexpert_that_are_called_lateral_views_have_no_view(tmp_path: Path) -> None:
    table = chexpert(tmp_path) / "train.csv"  # 16 rows of the published table say LL, one RL
    table.write_text(table.read_text().replace("Frontal,AP", "Frontal,LL"))
    images = read_collection(ChexpertSource(root=tmp_path, test_fraction=0)).images
    assert images["view"].to_pylist() == [None, "PA"]


def test_chexpert_in_full_size_is_found_as_its_four_archives_unpack(tmp_path: Path) -> None:
    root = tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)"
    root.mkdir()
    chexpert(root, "CheXpert-v1.0")
    places = (root / "valid/patient64541/study1", tmp_path / "CheXpert-v1.0 batch 2 (train 1)/patient00001/study1")
    for place in places:
        place.mkdir(parents=True)
        (place / "view1_frontal.jpg").touch()
    (tmp_path / "CheXpert-v1.0 batch 4 (train 3)/patient50000").mkdir(parents=True)
    collection = read_collection(ChexpertSource(root=root, test_fraction=0))
    images = collection.images
    assert all((collection.images_root / path).is_file() for path in images["image_path"].to_pylist())
    assert images["dicom_id"].to_pylist() == [
        "train/patient00001/study1/view1_frontal.jpg", "valid/patient64541/study1/view1_frontal.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("archive", ["CheXpert-v1.0-small", "CheXpert-v1.0"])
def test_chexpert_keeps_frontal_images_and_all_four_values_of_its_labels(tmp_path: Path, archive: str) -> None:
    collection = read_collection(ChexpertSource(root=chexpert(tmp_path, archive), test_fraction=0))
    train, valid = collection.images.to_pylist()
    labels = dict(zip(CHEXPERT, train.pop("labels"), strict=True))
    assert {name: value for name, value in labels.items() if value is not None} == {
        "Cardiomegaly": 1, "Lung Opacity": 0, "Lung Lesion": -1, "Support Devices": 1,
    }  # fmt: skip
    assert train == {
        "dicom_id": "train/patient00001/study1/view1_frontal.jpg", "study_id": "patient00001/study1",
        "subject_id": "patient00001", "view": "AP", "split": "train", "report_path": None, "report": None,
        "image_path": "train/patient00001/study1/view1_frontal.jpg", "sex": "F", "age_years": 68, "manufacturer": None,
    }  # fmt: skip
    assert (valid["split"], valid["view"], valid["subject_id"]) == ("validate", "PA", "patient64541")
    assert collection.not_selected == {"of view Lateral": 1}


def test_chexperts_laterals_come_with_a_view_of_their_own_where_they_are_asked_for(tmp_path: Path) -> None:
    source = ChexpertSource(root=chexpert(tmp_path), test_fraction=0, views=("Frontal", "Lateral"))
    collection = read_collection(source)
    assert collection.images["view"].to_pylist() == ["AP", "LATERAL", "PA"]
    assert collection.images["study_id"].to_pylist()[:2] == ["patient00001/study1"] * 2
    assert collection.not_selected == {}


def test_the_age_0_of_chexpert_is_unknown(tmp_path: Path) -> None:
    table = chexpert(tmp_path) / "train.csv"
    table.write_text(table.read_text().replace("Female,68", "Unknown,0"))
    train, valid = read_collection(ChexpertSource(root=tmp_path, test_fraction=0)).images.to_pylist()
    assert (train["sex"], train["age_years"]) == (None, None)
    assert (valid["sex"], valid["age_years"]) == ("M", 73)


PLUS = "path_to_image,frontal_lateral,deid_patient_id,report,section_findings,section_impression,age,split"


def test_chexpert_takes_its_reports_from_chexpert_plus_by_the_path_of_each_image(tmp_path: Path) -> None:
    root = chexpert(tmp_path)
    plus = write(
        root, "df_chexpert_plus_240401.csv", PLUS,
        'valid/patient64541/study1/view1_frontal.png,Frontal,patient1,whole,"Clear,\nboth.", 1. Normal. ,73.0,valid',
        "train/patient00001/study1/view1_frontal.jpg,Frontal,patient2,whole, ,Edema.,68.0,train",
        "train/patient00001/study1/view2_lateral.jpg,Lateral,patient2,whole,,,68.0,train",
    )  # fmt: skip
    views = ("Frontal", "Lateral")
    collection = read_collection(ChexpertSource(root=root, reports=plus, views=views))
    reports = {row["image_path"]: row["report"] for row in collection.images.to_pylist()}
    assert reports == {
        "valid/patient64541/study1/view1_frontal.jpg": "FINDINGS:\nClear,\nboth.\n\nIMPRESSION:\n1. Normal.",
        "train/patient00001/study1/view1_frontal.jpg": "IMPRESSION:\nEdema.",
        "train/patient00001/study1/view2_lateral.jpg": None,
    }
    assert collection.has_reports
    assert not read_collection(ChexpertSource(root=root)).has_reports


def test_a_table_of_reports_that_is_not_of_these_images_is_refused(tmp_path: Path) -> None:
    root = chexpert(tmp_path)
    other = write(root, "plus.csv", PLUS, "patient1/view1.png,Frontal,p,w,Clear.,,,")
    with pytest.raises(SourceError, match="has a report for none of the images"):
        read_collection(ChexpertSource(root=root, reports=other))
    other = write(root, "plus.csv", PLUS.replace("section_findings", "findings"))
    with pytest.raises(SourceError, match="closest is CheXpert Plus, but the table lacks section_findings"):
        read_collection(ChexpertSource(root=root, reports=other))


# ---------------------------------------------------------------- PadChest

PADCHEST_HEADER = ",ImageID,ImageDir,StudyID,PatientID,Projection,Labels,Report"


def padchest(folder: Path) -> Path:
    write(
        folder, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST_HEADER,
        "0,1_x0.png,0,S0,P0,PA,['normal'],sin hallazgos de interes .",
        "1,2_x1.png,0,S1,P0,L,\"['cardiomegaly', 'pleural effusion']\",sin hallazgos de interes .",
        "2,3_x2.png,54,S2,P1,AP_horizontal,\"['Cardiomegaly', 'scoliosis', ' hydropneumothorax']\",Derrame .",
        "3,4_x3.png,0,S3,P1,PA,['unchanged'],sin cambios .",
        "4,5_x4.png,0,S4,P2,PA,\"['exclude', 'scoliosis']\",sin cambios .",
        "5,6_x5.png,0,S5,P3,PA,,",
        "6,7_x6.png,0,S6,P4,EXCLUDE,['normal'],sin hallazgos .",
        "7,8_x7.png,0,S7,P5,PA,\"['scoliosis', 'kyphosis']\",escoliosis .",
        "8,9_x8.png,0,S8,,PA,['normal'],sin hallazgos .",
        "9,10_x9.png,0,S9,P6,PA,\"['unchanged', 'cardiomegaly']\",sin cambios .",
    )  # fmt: skip
    for name in ("0", "54"):
        (folder / name).mkdir()
    return folder


def test_padchest_maps_its_labels_and_counts_those_without_a_counterpart(tmp_path: Path) -> None:
    collection = read_collection(PadChestSource(root=padchest(tmp_path)))
    assert collection.label_names == CHEXPERT
    assert present(collection, "1_x0.png") == {"No Finding"}
    assert present(collection, "3_x2.png") == {"Cardiomegaly", "Pleural Effusion", "Pneumothorax"}
    assert present(collection, "4_x3.png") is None
    assert present(collection, "6_x5.png") is None
    assert present(collection, "8_x7.png") == set()
    assert present(collection, "10_x9.png") == {"Cardiomegaly"}
    assert collection.unmapped_labels == {"scoliosis": 2, "kyphosis": 1}
    assert collection.not_selected == {
        "labelled exclude by the collection": 1, "of view EXCLUDE": 1, "of view L": 1,
    }  # fmt: skip
    assert [tuple(item) for item in collection.left_out] == [
        ("0/9_x8.png", "table", "image has no patient or no study")
    ]
    image = rows(collection)["3_x2.png"]
    assert (image["image_path"], image["view"], image["study_id"]) == ("54/3_x2.png", "AP_horizontal", "S2")
    assert (image["report"], collection.report_language) == ("Derrame .", "es")


def test_what_the_authors_of_padchest_wrote_as_nan_is_missing(tmp_path: Path) -> None:
    # pandas' astype(str) made it; seen in the published file as reports of images without labels
    table = padchest(tmp_path) / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    table.write_text(table.read_text().replace("S5,P3,PA,,", "S5,P3,PA,nan,nan"))
    collection = read_collection(PadChestSource(root=tmp_path))
    assert present(collection, "6_x5.png") is None
    assert rows(collection)["6_x5.png"]["report"] is None
    assert collection.unmapped_labels == {"scoliosis": 2, "kyphosis": 1}


def test_padchest_labels_stand_for_what_its_tree_and_chexperts_labeler_make_of_them(tmp_path: Path) -> None:
    table = padchest(tmp_path) / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    listed = "['heart insufficiency', 'empyema', 'vertebral compression', 'mass']"
    table.write_text(table.read_text() + f'10,11_x10.png,0,S10,P7,PA,"{listed}",derram .\n')
    collection = read_collection(PadChestSource(root=tmp_path))
    assert present(collection, "11_x10.png") == {"Edema", "Pleural Effusion", "Fracture", "Lung Lesion"}


def test_padchest_knows_sex_and_the_age_in_the_year_of_the_study(tmp_path: Path) -> None:
    dated = ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Labels,Report"
    people = ["20140915,S0,P0,1952.0,F", "20140101,S1,P1,1950,M", "20140101,S2,P2,None,O", "20140101,S3,P3,1800.0,",
              ",S4,P4,1950.0,M"]  # fmt: skip
    lines = [f"{i},{i}.png,0,{person},PA,['normal'],." for i, person in enumerate(people)]
    write(tmp_path, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", dated, *lines)
    images = read_collection(PadChestSource(root=tmp_path)).images
    assert images["age_years"].to_pylist() == [62, 64, None, None, None]
    assert images["sex"].to_pylist() == ["F", "M", None, None, "M"]


def test_padchest_images_may_lie_in_one_folder(tmp_path: Path) -> None:
    (padchest(tmp_path) / "54").rmdir()
    assert rows(read_collection(PadChestSource(root=tmp_path)))["3_x2.png"]["image_path"] == "3_x2.png"


def test_each_label_of_padchest_is_in_lower_case_and_stands_for_some_observation() -> None:
    assert set(PADCHEST_LABELS) == set(CHEXPERT)
    assert all(names and list(names) == [name.lower() for name in names] for names in PADCHEST_LABELS.values())


# ---------------------------------------------------------------- VinDr-CXR


def vindr_row(*keys: str, **votes: int) -> str:
    values = [votes.get(name.split()[0].lower(), 0) for name in VINDR28]
    return ",".join([*keys, *map(str, values)])


def vindr(folder: Path) -> Path:
    published = [{"No Finding": "No finding"}.get(name, name) for name in VINDR28]
    train = [{"Other disease": "Other diseases"}.get(name, name) for name in published]
    write(
        folder, "annotations/image_labels_train.csv", ",".join(["image_id", "rad_id", *train]),
        vindr_row("aa", "R1", cardiomegaly=1, edema=1), vindr_row("aa", "R2", cardiomegaly=1),
        vindr_row("bb", "R1", no=1), vindr_row("aa", "R8", no=1), vindr_row("bb", "R9", no=1),
        vindr_row("bb", "R10", no=1), vindr_row("dd", "R1", edema=1), vindr_row("dd", "R2"),
    )  # fmt: skip
    write(
        folder, "annotations/image_labels_test.csv", ",".join(["image_id", *published]),
        vindr_row("cc", tuberculosis=1),
    )  # fmt: skip
    return folder


def test_vindr_counts_the_votes_of_three_readers(tmp_path: Path) -> None:
    root = vindr(tmp_path)
    majority = read_collection(VindrCxrSource(root=root, validate_fraction=0))
    assert {image: present(majority, image) for image in rows(majority)} == {
        "aa": {"Cardiomegaly"}, "bb": {"No Finding"}, "cc": {"Tuberculosis"}, "dd": set(),
    }, "one of two is no majority"  # fmt: skip
    assert {image: (row["split"], row["image_path"], row["view"]) for image, row in rows(majority).items()} == {
        "aa": ("train", "train/aa.dicom", "PA"), "bb": ("train", "train/bb.dicom", "PA"),
        "cc": ("test", "test/cc.dicom", "PA"), "dd": ("train", "train/dd.dicom", "PA"),
    }  # fmt: skip
    assert majority.remarks == {"images on which the readers of train disagree": 2}
    anyone = read_collection(VindrCxrSource(root=root, readers="any"))
    assert present(anyone, "aa") == {"Cardiomegaly", "Edema"}
    assert present(anyone, "bb") == {"No Finding"}


def test_vindr_refuses_a_reader_who_votes_twice(tmp_path: Path) -> None:
    path = vindr(tmp_path) / "annotations/image_labels_train.csv"
    path.write_text(path.read_text() + vindr_row("aa", "R1", edema=1) + "\n")
    with pytest.raises(SourceError, match="a reader has two rows for one image"):
        read_collection(VindrCxrSource(root=tmp_path))


# ---------------------------------------------------------------- RSNA


def rsna(folder: Path) -> Path:
    write(
        folder, "stage_2_train_labels.csv", "patientId,x,y,width,height,Target",
        "0004cfab,,,,,0", "00436515,264,152,213,379,1", "00436515,562,152,256,453,1", "00313ee0,,,,,0",
    )  # fmt: skip
    write(
        folder, "stage_2_detailed_class_info.csv", "patientId,class", "00313ee0,No Lung Opacity / Not Normal",
        "0004cfab,Normal", "00436515,Lung Opacity", "00436515,Lung Opacity",
    )  # fmt: skip
    return folder


def test_rsna_has_one_row_an_image_and_two_labels(tmp_path: Path) -> None:
    collection = read_collection(RsnaPneumoniaSource(root=rsna(tmp_path)))
    assert {image: present(collection, image) for image in rows(collection)} == {
        "0004cfab": {"No Finding"}, "00436515": {"Lung Opacity"}, "00313ee0": set(),
    }  # fmt: skip
    assert rows(collection)["0004cfab"]["image_path"] == "stage_2_train_images/0004cfab.dcm"


MAPPING = [
    {"subset_img_id": "0004cfab", "img_id": "00000001_000.png", "SOPInstanceUID": "1.2"},
    {"subset_img_id": "00436515", "img_id": "00000001_003.png", "SOPInstanceUID": "1.3"},
    {"subset_img_id": "00313ee0", "img_id": "00012345_001.png", "SOPInstanceUID": "1.4"},
    {"subset_img_id": "not-in-stage-2", "img_id": "00000009_001.png", "SOPInstanceUID": "1.5"},
]


def test_rsna_has_nihs_patients_and_their_splits_where_the_mapping_is_given(tmp_path: Path) -> None:
    root = rsna(tmp_path / "rsna")
    mapping = write(tmp_path, "mapping.json", json.dumps(MAPPING))
    patients = {"0004cfab": "1", "00436515": "1", "00313ee0": "12345"}
    by_hash = rows(read_collection(RsnaPneumoniaSource(root=root, nih_mapping=mapping)))
    assert {image: row["subject_id"] for image, row in by_hash.items()} == patients

    lists = tmp_path / "nih"
    write(lists, "train_val_list.txt", "00012345_001.png")
    write(lists, "test_list.txt", "00000001_000.png", "00000001_003.png")
    source = RsnaPneumoniaSource(root=root, nih_mapping=mapping, nih_root=lists, validate_fraction=0)
    splits = {image: row["split"] for image, row in rows(read_collection(source)).items()}
    assert splits == {"0004cfab": "test", "00436515": "test", "00313ee0": "train"}
    write(
        lists, "Data_Entry_2017_v2020.csv", NIH_2020,
        *(f"{entry['img_id']},Mass,0,{patients[entry['subset_img_id']]},58,M,PA,1,2,0.1,0.1" for entry in MAPPING[:3]),
    )  # fmt: skip
    whole = rows(read_collection(NihCxr14Source(root=lists, validate_fraction=0)))
    assert {(row["subject_id"], row["split"]) for row in whole.values()} == {("1", "test"), ("12345", "train")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not RSNA's mapping"),
        ("[1, 2]", "is not RSNA's mapping"),
        (json.dumps([MAPPING[0] | {"img_id": "x.png"}]), "is not RSNA's mapping"),
        (json.dumps([MAPPING[0], MAPPING[0]]), "is not RSNA's mapping"),
        (json.dumps(MAPPING[1:]), "does not have 1 of the 3 images"),
    ],
)
def test_rsna_refuses_what_is_not_the_mapping(tmp_path: Path, content: str, message: str) -> None:
    mapping = write(tmp_path, "mapping.json", content)
    with pytest.raises(SourceError, match=message):
        read_collection(RsnaPneumoniaSource(root=rsna(tmp_path / "rsna"), nih_mapping=mapping))


def test_rsna_refuses_nihs_folder_without_the_mapping(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nih_root needs ingest\.source\.nih_mapping"):
        read_collection(RsnaPneumoniaSource(root=rsna(tmp_path), nih_root=tmp_path))


def test_rsna_refuses_nihs_folder_without_its_lists(tmp_path: Path) -> None:
    """Splits by hash would not be those of NIH's own ingest, whose share of test patients is another."""
    root, mapping = rsna(tmp_path / "rsna"), write(tmp_path, "mapping.json", json.dumps(MAPPING))
    for folder in (tmp_path, tmp_path / "misspelt"):
        with pytest.raises(SourceError, match=r"has no official lists.*download the lists, or unset it"):
            read_collection(RsnaPneumoniaSource(root=root, nih_mapping=mapping, nih_root=folder))


def test_rsna_refuses_tables_that_contradict_each_other(tmp_path: Path) -> None:
    path = rsna(tmp_path) / "stage_2_detailed_class_info.csv"
    path.write_text(path.read_text().replace(",Normal\n", ",Lung Opacity\n"))
    with pytest.raises(SourceError, match=r"1 images of .* have another class"):
        read_collection(RsnaPneumoniaSource(root=tmp_path))


# ---------------------------------------------------------------- BRAX, MIMIC-CXR


def brax(folder: Path) -> Path:
    columns = ["PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", *CHEXPERT, "ViewPosition",
               "Manufacturer"]  # fmt: skip
    write(
        folder, "master_spreadsheet_update.csv", ",".join(columns),
        "images/id_a/b.png,id_a,M,60.0,A1,1.0,-1.0,0.0" + "," * 11 + ",AP,X",
        "images/id_a/c.png,id_a,M,60.0,A1" + "," * 14 + ",L,X",
    )  # fmt: skip
    return folder


def test_brax_keeps_frontal_images_and_chexperts_labels(tmp_path: Path) -> None:
    collection = read_collection(BraxSource(root=brax(tmp_path)))
    (image,) = collection.images.to_pylist()
    assert image["labels"] == [1, -1, 0, *[None] * 11]
    assert (image["image_path"], image["study_id"], image["view"]) == ("images/id_a/b.png", "id_a/A1", "AP")
    assert (image["sex"], image["age_years"], image["manufacturer"]) == ("M", 60, "X")
    assert collection.not_selected == {"of view L": 1}
    assert collection.remarks == {}


def test_ages_of_brax_are_groups_of_five_years_and_the_lowest_counts(tmp_path: Path) -> None:
    table = brax(tmp_path) / "master_spreadsheet_update.csv"
    header, line, _ = table.read_text().splitlines()
    cells = ("85 or more", "60-64", "0", "", "unknown", "250")
    rows = (line.replace("b.png", f"{i}.png").replace("M,60.0", f"O,{cell}") for i, cell in enumerate(cells))
    table.write_text("\n".join([header, *rows]))
    collection = read_collection(BraxSource(root=tmp_path))
    assert collection.images["age_years"].to_pylist() == [85, 60, 0, None, None, None]
    assert collection.images["sex"].to_pylist() == [None] * 6
    assert collection.remarks == {
        "images whose 'PatientSex' is not F, M, female or male, so that it is unknown": 6,
        "images whose 'PatientAge' is not an age up to 120 years, so that it is unknown": 2,
    }


def test_white_space_around_an_id_of_brax_makes_no_other_patient(tmp_path: Path) -> None:
    table = brax(tmp_path) / "master_spreadsheet_update.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[1].replace("b.png,id_a,", "d.png, id_a ,")]))
    images = read_collection(BraxSource(root=tmp_path)).images
    assert images["image_path"].to_pylist() == ["images/id_a/b.png", "images/id_a/d.png"]
    assert images["subject_id"].to_pylist() == ["id_a", "id_a"]


def test_mimic_cxr_images_may_be_dicom(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    tables = {
        "metadata": ("dicom_id,subject_id,study_id,ViewPosition", "a-1,10000032,50414267,PA"),
        "split": ("dicom_id,study_id,subject_id,split", "a-1,50414267,10000032,train"),
        "chexpert": (",".join(("subject_id", "study_id", *CHEXPERT)), "10000032,50414267" + "," * 14),
    }
    for name, lines in tables.items():
        write(tmp_path, f"mimic-cxr-2.0.0-{name}.csv", *lines)
    (image,) = read_collection(MimicCxrSource(root=tmp_path, image_format="dicom")).images.to_pylist()
    assert image["image_path"] == "files/p10/p10000032/s50414267/a-1.dcm"


# ---------------------------------------------------------------- patients and splits


PATIENTS = [f"{patient:05d}" for patient in range(12)]


def many_nih(folder: Path) -> NihCxr14Source:
    names = [f"{patient}_{image}.png" for patient in PATIENTS for image in range(3)]
    lines = [f"{name},Mass,0,{name[:5]},58,M,PA,1,2,0.1,0.1" for name in names]
    write(folder, "Data_Entry_2017_v2020.csv", NIH_2020, *lines)
    write(folder, "train_val_list.txt", *names[6:])
    write(folder, "test_list.txt", *names[:6])
    return NihCxr14Source(root=folder, validate_fraction=0.4)


def many_chexpert(folder: Path) -> ChexpertSource:
    for table, patients in (("train", PATIENTS[2:]), ("valid", PATIENTS[:2])):
        images = [
            f"A/{table}/patient{patient}/study{study}/view1_frontal.jpg" for patient in patients for study in "123"
        ]
        write(folder, f"{table}.csv", CHEXPERT_HEADER, *(f"{image},Male,60,Frontal,AP" + "," * 14 for image in images))
    return ChexpertSource(root=folder, test_fraction=0.4)


def many_padchest(folder: Path) -> PadChestSource:
    lines = [f"0,{patient}_{n}.png,0,S{patient}{n},{patient},PA,['normal'],." for patient in PATIENTS for n in range(3)]
    write(folder, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST_HEADER, *lines)
    return PadChestSource(root=folder, validate_fraction=0.3, test_fraction=0.4)


def many_brax(folder: Path) -> BraxSource:
    table = brax(folder) / "master_spreadsheet_update.csv"
    header, line, _ = table.read_text().splitlines()
    lines = [
        line.replace("b.png,id_a,", f"{patient}-{n}.png,{patient},").replace(",A1,", f",A{n},")
        for patient in PATIENTS for n in range(3)
    ]  # fmt: skip
    table.write_text("\n".join([header, *lines]))
    return BraxSource(root=folder, validate_fraction=0.3, test_fraction=0.4)


@pytest.mark.parametrize("make", [many_nih, many_chexpert, many_padchest, many_brax])
def test_all_images_of_a_patient_are_in_one_split_and_those_of_official_ones_stay_there(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    images = read_collection(make(tmp_path)).images.to_pylist()
    assert len(images) == 36
    splits = [{image["split"] for image in images if image["subject_id"].endswith(patient)} for patient in PATIENTS]
    assert all(len(of_patient) == 1 for of_patient in splits)
    assert set.union(*splits) == {"train", "validate", "test"}
    official = {many_nih: {"test"}, many_chexpert: {"validate"}}.get(make)
    if official is not None:
        assert splits[:2] == [official] * 2
        assert official not in splits[2:]


def test_a_patient_in_two_official_splits_is_refused(tmp_path: Path) -> None:
    nih_source = many_nih(tmp_path / "nih")
    lists = [tmp_path / "nih" / name for name in ("train_val_list.txt", "test_list.txt")]
    names = lists[1].read_text().split()
    lists[0].write_text(lists[0].read_text() + names[0])
    with pytest.raises(SourceError, match="1 images are in both official lists"):
        read_collection(nih_source)
    lists[1].write_text("\n".join(names[1:]))
    with pytest.raises(SourceError, match="1 subjects have images in more than one split"):
        read_collection(nih_source)
    chexpert_source = many_chexpert(tmp_path / "chexpert")
    valid = tmp_path / "chexpert" / "valid.csv"
    valid.write_text(valid.read_text().replace("patient00000/study3", "patient00011/study9"))
    with pytest.raises(SourceError, match="1 subjects have images in more than one split"):
        read_collection(chexpert_source.model_copy(update={"test_fraction": 0.0}))


# ---------------------------------------------------------------- tables of another version


@pytest.mark.parametrize(
    ("make", "source", "table", "column", "message"),
    [
        (nih, NihCxr14Source, "Data_Entry_2017.csv", "View Position", r"Data_Entry_2017\.csv, .* lacks View Position"),
        (chexpert, ChexpertSource, "train.csv", "Frontal/Lateral", r"CheXpert-v1\.0, but .* lacks Frontal/Lateral"),
        (padchest, PadChestSource, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "Projection",
         r"160K_01\.02\.19\.csv, but .* lacks Projection"),
        (vindr, VindrCxrSource, "annotations/image_labels_train.csv", "rad_id", r"VinDr-CXR 1\.0\.0, .* lacks rad_id"),
        (rsna, RsnaPneumoniaSource, "stage_2_train_labels.csv", "Target", r"labels\.csv, but .* lacks Target"),
        (brax, BraxSource, "master_spreadsheet_update.csv", "PngPath", r"BRAX 1\.1\.0, .* lacks PngPath"),
    ],
)  # fmt: skip
def test_a_table_of_another_version_is_told_the_nearest_and_what_it_lacks(
    tmp_path: Path, make: Callable[[Path], Path], source: type, table: str, column: str, message: str
) -> None:
    path = make(tmp_path) / table
    path.write_text(path.read_text().replace(column, "Renamed", 1))
    with pytest.raises(SourceError, match=f"of an unknown version. The closest is .*{message}"):
        read_collection(source(root=tmp_path))


@pytest.mark.parametrize(
    ("make", "source", "table"),
    [
        (nih, NihCxr14Source, "Data_Entry_2017.csv"),
        (chexpert, ChexpertSource, "valid.csv"),
        (padchest, PadChestSource, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"),
        (vindr, VindrCxrSource, "annotations/image_labels_test.csv"),
        (rsna, RsnaPneumoniaSource, "stage_2_detailed_class_info.csv"),
        (brax, BraxSource, "master_spreadsheet_update.csv"),
    ],
)
def test_a_missing_table_is_named(tmp_path: Path, make: Callable[[Path], Path], source: type, table: str) -> None:
    (make(tmp_path) / table).unlink()
    with pytest.raises(SourceError, match=f"There is no table.*{Path(table).name}"):
        read_collection(source(root=tmp_path))


def test_a_label_that_is_not_nihs_names_its_row_and_no_value(tmp_path: Path) -> None:
    path = nih(tmp_path) / "Data_Entry_2017.csv"
    path.write_text(path.read_text().replace("Mass", "Secretname"))
    with pytest.raises(SourceError, match="row 5: Finding Labels has an unknown label") as caught:
        read_collection(NihCxr14Source(root=tmp_path))
    assert "Secretname" not in str(caught.value)


def test_sex_and_age_are_read_as_collections_write_them_and_anything_else_is_unknown(tmp_path: Path) -> None:
    root = nih(tmp_path)
    path = root / "Data_Entry_2017.csv"
    path.write_text(path.read_text().replace(",2,058Y,M,", ",2,411,,"))
    image = rows(read_collection(NihCxr14Source(root=root)))["00000002_000.png"]
    assert (image["sex"], image["age_years"]) == (None, None)
