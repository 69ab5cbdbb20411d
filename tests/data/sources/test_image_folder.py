"""Any folder with a CSV: named columns, classes, splits by subject."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from emixer.config.ingest import ImageFolderSource
from emixer.data.labels import CHEXPERT, NIH14
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
    # for ever: another release must not move test patients into training
    assert column(many, "split")[:8:2] == ["validate", "test", "train", "train"]
    shares = [column(many, "split").count(split) / 400 for split in ("train", "validate", "test")]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.08)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("image,Edema\na.png,1\n", {}, "Give either"),
        ("image,Edema\na.png,1\n", {"label_columns": ("Edema",), "class_column": "Edema"}, "Give either"),
        ("image,Edema\na.png,1\n", {"label_columns": ("Oedema",)}, "no column 'Oedema'.* Did you mean 'Edema'"),
        ("image,Edema\na.png,2\n", {"label_columns": ("Edema",)}, "row 2, column 'Edema': the label is '2'"),
        (
            "image,Edema\nb.png,1\nb.png,0\na.png,1\na.png,0\n",
            {"label_columns": ("Edema",)},
            "rows 2 and 3 have the same image",
        ),
        ("image,Edema\n../a.png,1\n", {"label_columns": ("Edema",)}, "row 2: image is outside ingest.source.root"),
        ("image,Edema\n/a.png,1\n", {"label_columns": ("Edema",)}, "row 2: image is an absolute path"),
        ("image,Edema\nC:/a.png,1\n", {"label_columns": ("Edema",)}, "row 2: image is an absolute path"),
        ("image,Edema\nx\\a.png,1\n", {"label_columns": ("Edema",)}, "row 2: image has backslashes"),
        ("image;Edema\na.png;1\n", {"label_columns": ("Edema",)}, "separated by semicolons, .*delimiter=';'"),
        ("image\tEdema\na.png\t1\n", {"label_columns": ("Edema",)}, r"separated by tabs, .*delimiter='\\t'"),
        ("image,kind\na.png,x\n", {"class_column": "kind"}, "holds 1 classes"),
        ("image,Edema\n", {"label_columns": ("Edema",)}, "No image"),
        ("image,Edema,set\na.png,1,dev\n", {"label_columns": ("Edema",), "split_column": "set"}, "set is 'dev'"),
        (
            "image,Edema,who,set\na.png,1,p,train\nb.png,1,p,test\nc.png,1,q,test\nd.png,1,q,train\ne.png,1,r,test\n",
            {"label_columns": ("Edema",), "split_column": "set", "subject_column": "who"},
            "2 subjects have images in more than one split",
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
    assert collection.not_selected == {"of an unknown view": 1, "of view L": 1, "of view not given": 1}
    kept = read(tmp_path, padchest, **settings, views=("l",), keep_missing_view=True)
    assert column(kept, "image_path") == ["b.png", "d.png"]


def test_a_list_of_labels_that_cannot_be_read_names_its_row(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="row 3, column 'kind': not a readable list of labels"):
        read(tmp_path, "image,kind\na.png,['normal']\nb.png,\"['nodule', open(1)]\"\n", class_column="kind")


def test_white_space_around_cells_makes_no_other_patient_path_view_or_split(tmp_path: Path) -> None:
    rows = (" a.png , 1,P1,e1,PA,train", "b.png,0,P1 ,\te1,PA ,train ", "c.png, ,P2,e2,\u00a0,test")
    text = "\n".join(["image,Edema,who,exam,proj,set", *rows])
    settings = {"label_columns": ("Edema",), "subject_column": "who", "study_column": "exam", "view_column": "proj",
                "split_column": "set", "keep_missing_view": True}  # fmt: skip
    collection = read(tmp_path, text, **settings)
    assert column(collection, "image_path") == column(collection, "dicom_id") == ["a.png", "b.png", "c.png"]
    assert column(collection, "subject_id") == ["P1", "P1", "P2"]
    assert column(collection, "study_id") == ["e1", "e1", "e2"]
    assert column(collection, "view") == ["PA", "PA", None]
    assert column(collection, "split") == ["train", "train", "test"]
    assert column(collection, "labels") == [[1], [0], [None]]
    with pytest.raises(SourceError, match="rows 2 and 3 have the same image"):
        read(tmp_path, "image,Edema\na.png,1\na.png ,0\n", label_columns=("Edema",))


@pytest.mark.parametrize("named", ["subject_column", "study_column"])
def test_a_blank_cell_in_the_column_that_splits_are_made_by_is_refused(tmp_path: Path, named: str) -> None:
    with pytest.raises(SourceError, match=r"row 3: who is blank"):
        read(tmp_path, "image,Edema,who\na.png,1,P1\nb.png,0, \n", label_columns=("Edema",), **{named: "who"})


def test_an_image_without_a_study_is_a_study_of_its_own_where_the_patient_is_known(tmp_path: Path) -> None:
    text = "image,Edema,who,exam\na.png,1,P1,e1\nb.png,0,P1,\n"
    collection = read(tmp_path, text, label_columns=("Edema",), subject_column="who", study_column="exam")
    assert column(collection, "study_id") == ["e1", "b.png"]
    assert not collection.remarks


def test_studies_that_are_numbered_within_each_patient_are_told_apart(tmp_path: Path) -> None:
    """Else one report of all those of a visit 1 would count for the vocabulary."""
    text = "image,Edema,who,visit\na.png,1,P1,1\nb.png,0,P1,1\nc.png,0,P1,2\nd.png,0,P2,1\n"
    collection = read(tmp_path, text, label_columns=("Edema",), subject_column="who", study_column="visit")
    assert column(collection, "study_id") == ["P1/1", "P1/1", "P1/2", "P2/1"]
    assert column(collection, "subject_id") == ["P1", "P1", "P1", "P2"]


def test_it_is_remarked_what_counts_as_a_patient_where_no_column_names_them(tmp_path: Path) -> None:
    text = "image,Edema,exam\na.png,1,e1\nb.png,0,e1\n"
    by_image = read(tmp_path, text, label_columns=("Edema",))
    assert column(by_image, "subject_id") == ["a.png", "b.png"]
    assert by_image.remarks == {"images of unknown patients: each image counts as one (no subject_column)": 2}
    by_study = read(tmp_path, text, label_columns=("Edema",), study_column="exam")
    assert column(by_study, "subject_id") == ["e1", "e1"]
    assert by_study.remarks == {"images of unknown patients: each study counts as one (no subject_column)": 2}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("a.png,Jane Roe,1950-02-03,F,Large right effusion.\nb.png,Jane Roe,1950-02-03,F,Clear.\n", {}),
        ("a.png,Roe,F,Roe\n", {}),
        ("image,kind,Roe,Roe\na.png,x,1,1\n", {}),
        ("Roe,kind\na.png,x\n", {"class_column": "Label"}),
    ],
    ids=["no header", "no header, a cell twice", "a name twice", "other columns"],
)
def test_error_does_not_quote_a_first_row_that_may_be_a_patients(
    text: str, settings: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as raised:
        read(tmp_path, text, **{"class_column": "kind", **settings})
    assert "Roe" not in str(raised.value)
    assert "effusion" not in str(raised.value)
    assert "row" in str(raised.value)


def test_table_without_a_header_is_told_to_need_one(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"has no column 'image', nor any other.*insert a row of column names above it"
    ):
        read(tmp_path, "a.png,x\nb.png,y\n", class_column="kind")


def test_views_that_may_be_names_are_counted_without_being_shown(tmp_path: Path) -> None:
    text = (
        "image,Edema,proj\na.png,1,PA\nb.png,0,Roe\nc.png,0,Jane Roe\nd.png,1,XTABLE LATERAL\ne.png,1,AP_horizontal\n"
    )
    collection = read(tmp_path, text, label_columns=("Edema",), view_column="proj", views=("PA",))
    assert collection.not_selected == {
        "of an unknown view": 2, "of view AP_horizontal": 1, "of view XTABLE LATERAL": 1,
    }  # fmt: skip


def test_views_are_spelled_as_they_were_asked_for(tmp_path: Path) -> None:
    text = "image,Edema,proj\na.png,1,pa\nb.png,0,PA\nc.png,0,Ap\nd.png,1,\ne.png,1,Lat\n"
    settings = {"label_columns": ("Edema",), "view_column": "proj", "keep_missing_view": True}
    collection = read(tmp_path, text, **settings)
    assert column(collection, "view") == ["PA", "PA", "AP", None]
    assert collection.not_selected == {"of view Lat": 1}
    assert column(read(tmp_path, text, **settings, views=("pa", "LAT")), "view") == ["pa", "pa", None, "LAT"]


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ({"views": ("PA",)}, "view_column"),
        ({"keep_missing_view": True}, "view_column"),
        ({"report_language": "de"}, "report_column"),
    ],
)
def test_a_setting_about_a_column_that_is_not_named_is_refused(
    tmp_path: Path, setting: dict[str, object], needed: str
) -> None:
    (name,) = setting
    with pytest.raises(ValidationError, match=f"{name} would have no effect without {needed}"):
        read(tmp_path, "image,Edema\na.png,1\n", label_columns=("Edema",), **setting)


def test_reports_are_in_the_language_that_is_given(tmp_path: Path) -> None:
    text = "image,Edema,text\na.png,1,Befund: Herz normal groß.\n"
    settings = {"label_columns": ("Edema",), "report_column": "text"}
    assert read(tmp_path, text, **settings).report_language == "en"
    assert read(tmp_path, text, **settings, report_language="de").report_language == "de"
    with pytest.raises(ValidationError, match="report_language"):
        read(tmp_path, text, **settings, report_language="German")


def test_sex_age_and_manufacturer_come_from_columns_and_cells_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    rows = ("a,F,58,X", "b,male,058Y,", "c,Female,58.0,X", "d,M,90+,X", "e,missing,133,X", "f,,,", "g,W,alt,X")
    text = "\n".join(["image,Sex,Age,Maker,Who,Edema", *(f"{row},{row[0]},1" for row in rows)])
    collection = read(
        tmp_path, text, label_columns=("Edema",), subject_column="Who", sex_column="Sex", age_column="Age",
        manufacturer_column="Maker",
    )  # fmt: skip
    assert column(collection, "sex") == ["F", "M", "F", "M", None, None, None]
    assert column(collection, "age_years") == [58, 58, 58, 90, None, None, None]
    assert column(collection, "manufacturer") == ["X", None, "X", "X", "X", None, "X"]
    assert collection.remarks == {
        "images whose 'Sex' is not F, M, female or male, so that it is unknown": 2,
        "images whose 'Age' is not an age up to 120 years, so that it is unknown": 2,
    }
    assert collection.from_headers == ()


def test_headers_tell_sex_and_age_only_if_they_may(tmp_path: Path) -> None:
    collection = read(tmp_path, "image,Edema\na.dcm,1\n", label_columns=("Edema",), sex_and_age_from_headers=True)
    assert collection.from_headers == ("sex", "age_years")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("Edema", "Edema"), "label 'Edema' is given twice"),
        (("NIH14", "CHEXPERT"), "label 'Atelectasis' is given twice"),
        (("Edema", "edema"), "labels 'Edema' and 'edema' differ only in case"),
        (("Edema", "seed"), "No label may be named 'seed'"),
        (("View",), "No label may be named 'View'"),
    ],
)
def test_label_names_that_a_dataset_could_not_hold_are_refused(
    tmp_path: Path, columns: tuple[str, ...], message: str
) -> None:
    names = dict.fromkeys(["edema", "seed", "View", *NIH14, *CHEXPERT])
    with pytest.raises(SourceError, match=message):
        read(tmp_path, ",".join(["image", *names]) + "\na.png" + ",1" * len(names) + "\n", label_columns=columns)


def test_so_are_names_of_classes(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="labels 'Normal' and 'normal' differ only in case"):
        read(tmp_path, "image,kind\na.png,normal\nb.png,Normal\nc.png,sick\n", class_column="kind")
    with pytest.raises(SourceError, match="No label may be named 'index'"):
        read(tmp_path, "image,kind\na.png,index\nb.png,sick\n", class_column="kind")


@pytest.mark.parametrize(("encoding", "row", "told"), [("cp1252", 3, "CP1252"), ("utf-16", 1, "UTF-16")])
def test_a_table_in_another_encoding_is_refused_with_the_row_and_how_to_convert_it(
    tmp_path: Path, encoding: str, row: int, told: str
) -> None:
    text = 'image,Edema,text\na.png,1,"fine,\nand clear"\nb.png,0,groß\n'
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    source = ImageFolderSource(root=tmp_path, label_csv=tmp_path / "labels.csv", label_columns=("Edema",))
    with pytest.raises(SourceError, match=rf"row {row}: the text is not UTF-8\..* iconv -f {told} -t UTF-8"):
        read_collection(source)
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert read_collection(source).images.num_rows == 2


def test_a_command_that_is_told_to_convert_a_table_does(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        read(tmp_path, 'image;Edema;text\na.png;1;"a, b; c"\n', label_columns=("Edema",))
    command = str(caught.value).partition("e.g.: ")[2].replace("python", sys.executable, 1)
    command = command.replace("OLD.csv", "labels.csv").replace("NEW.csv", "commas.csv")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    source = ImageFolderSource(
        root=tmp_path, label_csv=tmp_path / "commas.csv", label_columns=("Edema",), report_column="text"
    )
    assert read_collection(source).images["report"].to_pylist() == ["a, b; c"]


def test_a_table_that_is_not_there_is_told_by_the_setting_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no table .*absent\.csv\. Check ingest\.source\.label_csv\."):
        read_collection(ImageFolderSource(root=tmp_path, label_csv=tmp_path / "absent.csv", label_columns=("Edema",)))
