"""How published collections lay out images and tables, for the phantom to do the same: one class a collection.

A layout sees rows of factors.parquet, so names of files are made of what such a row holds, and the `findings` and
`impression` of the report, empty where it has no such section. What the collections' own tables hold beyond what a
reader of them needs is left out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from emixer.data.labels import CHEXPERT, NIH14, VINDR28, Label
from emixer.data.padchest_labels import PADCHEST_LABELS
from emixer.data.phantom.damage import Damage
from emixer.data.phantom.factors import column_name
from emixer.data.phantom.image_files import encode_dicom, encode_jpeg, encode_png
from emixer.data.phantom.radiograph import Radiograph

Row = dict[str, Any]
Rows = Callable[[], Iterator[Row]]
"""All of these rows, as often as they are asked for."""


@dataclass(frozen=True)
class Table:
    """One text file: comma-separated, under a header if there is one."""

    name: str
    header: tuple[str, ...]
    rows: Iterable[tuple[Any, ...]]


class Layout:
    """What a layout has to say; by default it takes all images, PNG of 8 bits, and has no reports."""

    title: ClassVar[str]
    """The collection, with its version."""
    ingest: ClassVar[str]
    """What to give to `emixer ingest`."""
    laterals: ClassVar[bool] = True
    dicom: ClassVar[bool] = False
    has_report_files: ClassVar[bool] = False
    report_table: ClassVar[str | None] = None
    """The table of reports that `emixer ingest` takes as --reports."""
    version: ClassVar[int] = 1
    """Changes whenever the same drawing would be laid out in other bytes."""

    def image_path(self, row: Row) -> str:
        """Where an image lies, relative to the collection."""
        raise NotImplementedError

    def encode(self, image: Radiograph, row: Row) -> bytes:
        """The bytes of an image's file."""
        return encode_png(image)

    def tables(self, rows: Rows) -> Iterator[Table]:
        """The tables, in the order in which they are written."""
        raise NotImplementedError

    def documents(self, rows: Rows) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """JSON files beside the tables: name and content."""
        yield from ()


class MimicCxrJpg(Layout):
    """Images and reports in folders of patients and studies; tables of labels, metadata and splits, and MIMIC-IV's of
    patients, which knows their sex and age."""

    title = "MIMIC-CXR-JPG 2.0.0"
    ingest = "mimic-cxr"
    has_report_files = True
    suffix: ClassVar[str] = ".jpg"

    def image_path(self, row: Row) -> str:
        subject = row["subject_id"]
        return f"files/p{subject[:2]}/p{subject}/s{row['study_id']}/{row['dicom_id']}{self.suffix}"

    def encode(self, image: Radiograph, row: Row) -> bytes:
        return encode_jpeg(image)

    def tables(self, rows: Rows) -> Iterator[Table]:
        yield Table("mimic-cxr-2.0.0-chexpert.csv.gz", ("subject_id", "study_id", *CHEXPERT), _mimic_labels(rows()))
        yield Table("mimic-cxr-2.0.0-metadata.csv.gz", _MIMIC_METADATA, map(_mimic_metadata, rows()))
        yield Table(
            "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"),
            ((row["dicom_id"], row["study_id"], row["subject_id"], row["split"]) for row in rows()),
        )  # fmt: skip
        header = ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod")
        yield Table("patients.csv.gz", header, _mimic_patients(rows()))


class MimicCxr(MimicCxrJpg):
    """The same with DICOM images."""

    title = "MIMIC-CXR 2.0.0 (DICOM) with the tables of MIMIC-CXR-JPG"
    version = 2
    ingest = "mimic-cxr --image-format dicom"
    dicom = True
    suffix = ".dcm"

    def encode(self, image: Radiograph, row: Row) -> bytes:
        return _dicom(image, row)


class NihCxr14(Layout):
    """Frontal images in one folder, findings as A|B, two official lists."""

    title = "NIH ChestX-ray14, release of 2020"
    ingest = "nih-cxr14"
    laterals = False

    def image_path(self, row: Row) -> str:
        return f"images/{self._name(row)}"

    def _name(self, row: Row) -> str:
        return f"{row['subject_id']}_{row['dicom_id'][:8]}.png"

    def tables(self, rows: Rows) -> Iterator[Table]:
        header = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Sex",
                  "View Position")  # fmt: skip
        yield Table("Data_Entry_2017_v2020.csv", header, map(self._entry, rows()))
        for name, is_test in (("train_val_list.txt", False), ("test_list.txt", True)):
            yield Table(name, (), ((self._name(row),) for row in rows() if (row["split"] == "test") == is_test))

    def _entry(self, row: Row) -> tuple[Any, ...]:
        found = [name for name in NIH14 if name in _NIH_FROM and _stated(row, _NIH_FROM[name]) == 1]
        return (
            self._name(row), "|".join(found) or str(Label.NO_FINDING), 0, row["subject_id"], row["age_years"],
            row["sex"], row["projection"],
        )  # fmt: skip


class Chexpert(Layout):
    """JPEGs in folders of patients and studies, a table for train, one for valid and CheXpert Plus's, of reports."""

    title = "CheXpert v1.0 with the reports of CheXpert Plus"
    report_table = "df_chexpert_plus_240401.csv"
    version = 2
    ingest = "chexpert"

    def image_path(self, row: Row) -> str:
        part = "valid" if row["split"] == "validate" else "train"
        view = "lateral" if row["projection"] == "LATERAL" else "frontal"
        return f"{part}/patient{row['subject_id']}/study{row['study_id']}/view_{row['dicom_id'][:8]}_{view}.jpg"

    def encode(self, image: Radiograph, row: Row) -> bytes:
        return encode_jpeg(image)

    def tables(self, rows: Rows) -> Iterator[Table]:
        header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT)
        for part in ("train", "valid"):
            yield Table(
                f"{part}.csv", header,
                (self._entry(row) for row in rows() if (row["split"] == "validate") == (part == "valid")),
            )  # fmt: skip
        yield Table(
            self.report_table, ("path_to_image", "section_findings", "section_impression"),
            ((self.image_path(row), row["findings"], row["impression"]) for row in rows()),
        )  # fmt: skip

    def _entry(self, row: Row) -> tuple[Any, ...]:
        lateral = row["projection"] == "LATERAL"
        views = ("Lateral", "") if lateral else ("Frontal", row["projection"])
        sex = {"F": "Female", "M": "Male"}[row["sex"]]
        return (f"CheXpert-v1.0/{self.image_path(row)}", sex, row["age_years"], *views, *_four_values(row))


class PadChest(Layout):
    """16-bit PNGs in numbered folders; labels as Python lists; a word or two of Spanish for a report."""

    title = "PadChest, table 160K_01.02.19"
    ingest = "padchest"

    def image_path(self, row: Row) -> str:
        return f"{self._folder(row)}/{row['dicom_id']}.png"

    def _folder(self, row: Row) -> int:
        return int(row["study_index"]) % 55

    def encode(self, image: Radiograph, row: Row) -> bytes:
        return encode_png(image, deep=True)

    def tables(self, rows: Rows) -> Iterator[Table]:
        header = ("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
                  "PatientSex_DICOM", "Projection", "Labels", "Report")  # fmt: skip
        entries = ((number, *self._entry(row)) for number, row in enumerate(rows()))
        yield Table("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", header, entries)

    def _entry(self, row: Row) -> tuple[Any, ...]:
        named = [PADCHEST_LABELS[Label(name)][0] for name in CHEXPERT if _stated(row, name) == 1]
        report = "sin hallazgos ." if _stated(row, Label.NO_FINDING) == 1 else "con hallazgos ."
        view = {"LATERAL": "L", "AP": "AP_horizontal"}.get(row["projection"], row["projection"])
        return (
            f"{row['dicom_id']}.png", self._folder(row), row["study_date"], row["study_id"], row["subject_id"],
            int(row["study_date"][:4]) - row["age_years"], row["sex"], view, repr(named or ["unchanged"]), report,
        )  # fmt: skip


class VindrCxr(Layout):
    """Frontal DICOM images without patients; two readers see the truth, the third says what the report says."""

    title = "VinDr-CXR 1.0.0"
    version = 2
    ingest = "vindr-cxr"
    dicom = True
    laterals = False

    def image_path(self, row: Row) -> str:
        return f"{'test' if row['split'] == 'test' else 'train'}/{_image_id(row)}.dicom"

    def encode(self, image: Radiograph, row: Row) -> bytes:
        return _dicom(image, row, sex=row["sex"], age=f"{row['age_years']:03d}Y")

    def tables(self, rows: Rows) -> Iterator[Table]:
        names = [{"No Finding": "No finding"}.get(name, name) for name in VINDR28]
        train = [{"Other disease": "Other diseases"}.get(name, name) for name in names]
        yield Table("annotations/image_labels_train.csv", ("image_id", "rad_id", *train), _votes(rows()))
        yield Table(
            "annotations/image_labels_test.csv", ("image_id", *names),
            ((_image_id(row), *_vindr_labels(row, _true)) for row in rows() if row["split"] == "test"),
        )  # fmt: skip


class RsnaPneumonia(Layout):
    """Frontal DICOM images with view and plain years for an age in their headers, a table of boxes and one of classes,
    and which images of NIH's they are."""

    title = "RSNA Pneumonia Detection Challenge, stage 2"
    version = 3
    ingest = "rsna-pneumonia"
    dicom = True
    laterals = False

    def image_path(self, row: Row) -> str:
        return f"stage_2_train_images/{_image_id(row)}.dcm"

    def encode(self, image: Radiograph, row: Row) -> bytes:
        return _dicom(image, row, sex=row["sex"], age=str(row["age_years"]), view=row["projection"])

    def tables(self, rows: Rows) -> Iterator[Table]:
        yield Table(
            "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"),
            ((_image_id(row), *((0, 0, 1, 1, 1) if _opaque(row) else ("", "", "", "", 0))) for row in rows()),
        )  # fmt: skip
        yield Table(
            "stage_2_detailed_class_info.csv", ("patientId", "class"),
            ((_image_id(row), self._class(row)) for row in rows()),
        )  # fmt: skip

    def documents(self, rows: Rows) -> Iterator[tuple[str, list[dict[str, str]]]]:
        seen: Counter[str] = Counter()
        mapping = []
        for row in rows():
            name = f"{int(row['subject_id']):08d}_{seen[row['subject_id']]:03d}.png"
            seen[row["subject_id"]] += 1
            mapping.append({"subset_img_id": _image_id(row), "img_id": name})
        yield "pneumonia-challenge-dataset-mappings_2018.json", mapping

    def _class(self, row: Row) -> str:
        if _opaque(row):
            return "Lung Opacity"
        return "Normal" if _true(row, Label.NO_FINDING) else "No Lung Opacity / Not Normal"


class Brax(Layout):
    """PNGs in folders of patients and studies, one table."""

    title = "BRAX 1.1.0"
    ingest = "brax"

    def image_path(self, row: Row) -> str:
        return f"images/id_{row['subject_id']}/Study_{row['study_id']}/image-{row['dicom_id']}.png"

    def tables(self, rows: Rows) -> Iterator[Table]:
        header = ("PngPath", "PatientID", "PatientSex", "PatientAge", "AccessionNumber", *CHEXPERT, "ViewPosition",
                  "Manufacturer")  # fmt: skip
        yield Table("master_spreadsheet_update.csv", header, map(self._entry, rows()))

    def _entry(self, row: Row) -> tuple[Any, ...]:
        view = {"LATERAL": "L"}.get(row["projection"], row["projection"])
        return (
            self.image_path(row), f"id_{row['subject_id']}", row["sex"], _five_years(row["age_years"]), row["study_id"],
            *_four_values(row), view, "emixer",
        )  # fmt: skip


def _five_years(age: int) -> str:
    """The first year of its group, as BRAX is de-identified."""
    return "85 or more" if age >= 85 else str(age // 5 * 5)


LAYOUTS: dict[str, Layout] = {
    "mimic-cxr-jpg": MimicCxrJpg(),
    "mimic-cxr": MimicCxr(),
    "nih-cxr14": NihCxr14(),
    "chexpert": Chexpert(),
    "padchest": PadChest(),
    "vindr-cxr": VindrCxr(),
    "rsna-pneumonia": RsnaPneumonia(),
    "brax": Brax(),
}

_NIH_FROM = {
    "Atelectasis": Label.ATELECTASIS, "Cardiomegaly": Label.CARDIOMEGALY, "Effusion": Label.PLEURAL_EFFUSION,
    "Infiltration": Label.LUNG_OPACITY, "Nodule": Label.LUNG_LESION, "Pneumonia": Label.PNEUMONIA,
    "Pneumothorax": Label.PNEUMOTHORAX, "Consolidation": Label.CONSOLIDATION, "Edema": Label.EDEMA,
    "Pleural_Thickening": Label.PLEURAL_OTHER,
}  # fmt: skip
_VINDR_FROM = {
    "Atelectasis": Label.ATELECTASIS, "Cardiomegaly": Label.CARDIOMEGALY, "Consolidation": Label.CONSOLIDATION,
    "Edema": Label.EDEMA, "Lung Opacity": Label.LUNG_OPACITY, "Nodule/Mass": Label.LUNG_LESION,
    "Pleural effusion": Label.PLEURAL_EFFUSION, "Pleural thickening": Label.PLEURAL_OTHER,
    "Pneumothorax": Label.PNEUMOTHORAX, "Rib fracture": Label.FRACTURE, "Pneumonia": Label.PNEUMONIA,
    "No Finding": Label.NO_FINDING,
}  # fmt: skip
_OPAQUE = (Label.LUNG_OPACITY, Label.PNEUMONIA, Label.CONSOLIDATION)
_MIMIC_METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
_VIEW_MEANING = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral"}


def _mimic_labels(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """One row a study, that is, at its first image."""
    last = None
    for row in rows:
        if row["study_id"] == last or row["damage"] == Damage.NO_LABEL_ROW:
            continue
        last = row["study_id"]
        yield (row["subject_id"], row["study_id"], *_four_values(row))


def _mimic_patients(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """One row a patient: the age in the year of the first study."""
    seen: set[str] = set()
    for row in rows:
        if row["subject_id"] not in seen:
            seen.add(row["subject_id"])
            yield (row["subject_id"], row["sex"], row["age_years"], row["study_date"][:4], "", "")


def _mimic_metadata(row: Row) -> tuple[Any, ...]:
    procedure = "CHEST (PORTABLE AP)" if row["portable"] else "CHEST (PA AND LAT)"
    position = "" if not row["view"] else "Recumbent" if row["portable"] else "Erect"
    return (
        row["dicom_id"], row["subject_id"], row["study_id"], procedure, row["view"], row["rows"], row["columns"],
        row["study_date"], row["study_time"], procedure, _VIEW_MEANING.get(row["view"], ""), position,
    )  # fmt: skip


def _votes(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        if row["split"] != "test":
            for reader, seen in (("R1", _true), ("R2", _true), ("R3", _stated)):
                yield (_image_id(row), reader, *_vindr_labels(row, seen))


def _vindr_labels(row: Row, seen: Callable[[Row, str], int | None]) -> list[int]:
    return [int(name in _VINDR_FROM and seen(row, _VINDR_FROM[name]) == 1) for name in VINDR28]


def _four_values(row: Row) -> tuple[str, ...]:
    """The label row as CheXpert's labeler writes it: 1.0, 0.0, -1.0 or blank."""
    values = (_stated(row, name) for name in CHEXPERT)
    return tuple("" if value is None else f"{value:.1f}" for value in values)


def _stated(row: Row, label: str) -> int | None:
    value: int | None = row[f"stated_{column_name(label)}"]
    return value


def _true(row: Row, label: str) -> int:
    return int(row[f"true_{column_name(label)}"])


def _opaque(row: Row) -> bool:
    return any(_true(row, label) for label in _OPAQUE)


def _image_id(row: Row) -> str:
    return str(row["dicom_id"]).replace("-", "")


def _dicom(image: Radiograph, row: Row, **told: str) -> bytes:
    return encode_dicom(image, row["dicom_id"], white_is_zero=row["portable"], **told)
