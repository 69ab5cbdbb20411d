"""Any folder with a CSV: named columns, classes, splits by subject."""

from pathlib import Path

import pytest

from emixer.config.ingest import ImageFolderSource
from emixer.data.labels import NIH14
from emixer.data.sources import Collection, read_collection
from emixer.errors import SourceError


def read(folder: Path, text: str, **settings: object) -> Collection:
    (folder / "labels.csv").write_text(text)
    return read_collection(ImageFolderSource(root=folder, label_csv=folder / "labels.csv", **settings))


def column(collection: Collection, name: str) -> list[object]:
    values: list[object] = collection.images[name].to_pylist()
    return values


def test_classes_become_one_hot_labels_in_alphabetical_order(tmp_path: Path) -> None:
    collection = read(tmp_path, "image,kind\na.png,sick\nb.png,fine\nc.png,\n", class_column="kind")
    assert collection.label_names == ("fine", "sick")
    assert column(collection, "labels") == [[0, 1], [1, 0], None]
    assert not collection.has_reports


def test_label_columns_keep_uncertain_and_blank_apart(tmp_path: Path) -> None:
    collection = read(tmp_path, "image,Edema,Mass\na.png,1,\nb.png,-1.0, 0\n", label_columns=("Mass", "Edema"))
    assert column(collection, "labels") == [[None, 1], [0, -1]]


def test_the_name_of_a_label_set_stands_for_its_columns(tmp_path: Path) -> None:
    text = ",".join(("image", *NIH14)) + "\na.png" + ",1" * 14 + "\n"
    assert read(tmp_path, text, label_columns=("NIH14",)).label_names == NIH14


def test_named_columns_become_ids_view_split_and_report(tmp_path: Path) -> None:
    text = 'file,Edema,patient,exam,proj,set,text\nx/a.png,0,p1,e1,PA,val,"No ""free"" air,\nclear."\n'
    collection = read(
        tmp_path, text, path_column="file", label_columns=("Edema",), subject_column="patient", study_column="exam",
        view_column="proj", split_column="set", report_column="text", name="ours",
    )  # fmt: skip
    assert collection.images.to_pylist() == [
        {
            "dicom_id": "x/a.png", "study_id": "e1", "subject_id": "p1", "view": "PA", "split": "validate",
            "image_path": "x/a.png", "report_path": None, "report": 'No "free" air,\nclear.', "labels": [0],
            "sex": None, "age_years": None, "manufacturer": None,
        }
    ]  # fmt: skip
    assert collection.source == "ours"
    assert collection.has_reports


def test_images_of_a_subject_share_a_split_that_other_subjects_do_not_change(tmp_path: Path) -> None:
    rows = [f"{n}.png,1,p{n // 2}" for n in range(400)]
    few, many = (
        read(tmp_path, "\n".join(["image,Edema,who", *chosen]), label_columns=("Edema",), subject_column="who",
             validate_fraction=0.2, test_fraction=0.3)
        for chosen in (rows[:200], rows)
    )  # fmt: skip
    assert column(many, "split")[:200] == column(few, "split")
    assert column(many, "split")[0::2] == column(many, "split")[1::2]
    shares = [column(many, "split").count(split) / 400 for split in ("train", "validate", "test")]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.08)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("image,Edema\na.png,1\n", {}, "Give either"),
        ("image,Edema\na.png,1\n", {"label_columns": ("Edema",), "class_column": "Edema"}, "Give either"),
        ("image,Edema\na.png,1\n", {"label_columns": ("Oedema",)}, "no column 'Oedema'.* Did you mean 'Edema'"),
        ("image,Edema\na.png,2\n", {"label_columns": ("Edema",)}, "row 2, column 'Edema': the label is '2'"),
        ("image,Edema\na.png,1\na.png,0\n", {"label_columns": ("Edema",)}, "rows 2 and 3 have the same image"),
        ("image,Edema\n../a.png,1\n", {"label_columns": ("Edema",)}, "row 2: the image path is outside"),
        ("image,Edema\n/a.png,1\n", {"label_columns": ("Edema",)}, "row 2: the image path is outside"),
        ("image,kind\na.png,x\n", {"class_column": "kind"}, "holds 1 classes"),
        ("image,Edema\n", {"label_columns": ("Edema",)}, "No image"),
        ("image,Edema,set\na.png,1,dev\n", {"label_columns": ("Edema",), "split_column": "set"}, "set is 'dev'"),
        (
            "image,Edema,who,set\na.png,1,p,train\nb.png,1,p,test\n",
            {"label_columns": ("Edema",), "split_column": "set", "subject_column": "who"},
            "1 subjects have images in more than one split",
        ),
    ],
)
def test_a_csv_that_breaks_a_promise_is_refused(
    tmp_path: Path, text: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, text, **settings)


def test_cells_that_list_labels_become_several_labels(tmp_path: Path) -> None:
    text = "Image Index,Finding Labels\na.png,No Finding\nb.png,Effusion|Infiltration\nc.png,\nd.png,Effusion\n"
    collection = read(tmp_path, text, path_column="Image Index", class_column="Finding Labels")
    assert collection.label_names == ("Effusion", "Infiltration", "No Finding")
    assert column(collection, "labels") == [[0, 0, 1], [1, 1, 0], None, [1, 0, 0]]


def test_python_lists_and_other_separators_are_read_too(tmp_path: Path) -> None:
    lists = "image,kind\na.png,['normal']\nb.png,\"['nodule', ' pleural effusion', '']\"\nc.png,[]\n"
    collection = read(tmp_path, lists, class_column="kind")
    assert collection.label_names == ("nodule", "normal", "pleural effusion")
    assert column(collection, "labels") == [[0, 1, 0], [1, 0, 1], None]
    semicolons = "image,kind\na.png,x|y; z\nb.png,z\n"
    assert read(tmp_path, semicolons, class_column="kind", label_separator=";").label_names == ("x|y", "z")
    assert read(tmp_path, semicolons, class_column="kind", label_separator=None).label_names == ("x|y; z", "z")


def test_images_that_are_not_frontal_are_left_out_and_counted(tmp_path: Path) -> None:
    chexpert = "image,Edema,F/L\na.jpg,1,Lateral\nb.jpg,0,Frontal\n"
    collection = read(tmp_path, chexpert, label_columns=("Edema",), view_column="F/L")
    assert column(collection, "image_path") == ["b.jpg"]
    assert column(collection, "labels") == [[0]]
    assert collection.not_selected == {"of view Lateral": 1}
    padchest = "image,Edema,Projection\na.png,1,PA\nb.png,0,L\nc.png,0,AP_horizontal\nd.png,0,\ne.png,0,9981\n"
    settings = {"label_columns": ("Edema",), "view_column": "Projection"}
    collection = read(tmp_path, padchest, **settings)
    assert column(collection, "view") == ["PA", "AP_horizontal"]
    assert collection.not_selected == {"of a view without a name": 1, "of view L": 1, "of view not given": 1}
    kept = read(tmp_path, padchest, **settings, views=("l",), keep_missing_view=True)
    assert column(kept, "image_path") == ["b.png", "d.png"]


def test_a_list_of_labels_that_cannot_be_read_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="row 3, column 'kind': not a readable list of labels"):
        read(tmp_path, "image,kind\na.png,['normal']\nb.png,\"['nodule', open(1)]\"\n", class_column="kind")
