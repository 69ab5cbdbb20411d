"""Settings of `emixer ingest`."""

from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import Field, model_validator

from emixer.config.base import ExactInteger, Section


class _Shares(Protocol):
    validate_fraction: float
    test_fraction: float


_Split = TypeVar("_Split", bound=_Shares)


def _leave_subjects_to_train(source: _Split) -> _Split:
    """Validator of a source whose subjects may be split by two shares."""
    if source.validate_fraction + source.test_fraction >= 1:
        raise ValueError(
            f"validate_fraction={source.validate_fraction:g} and test_fraction={source.test_fraction:g} leave no "
            "subject to train; their sum must be less than 1"
        )
    return source


class MimicCxrSource(Section):
    """MIMIC-CXR-JPG 2.0.0 in the PhysioNet layout (also written by the phantom), or the DICOM images of MIMIC-CXR."""

    kind: Literal["mimic-cxr"] = "mimic-cxr"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with `files/` and the mimic-cxr-2.0.0-*.csv.gz tables."""
    reports_root: Path | None = Field(None, strict=False)
    """Folder with the report tree `files/pXX/pXXXXXXXX/sXXXXXXXX.txt`, if it is not `root`."""
    image_format: Literal["jpg", "dicom"] = "jpg"
    """Images of MIMIC-CXR-JPG, or of MIMIC-CXR (`files/.../*.dcm`); both need the tables of MIMIC-CXR-JPG."""
    labeler: Literal["chexpert", "negbio", "factors"] = "chexpert"
    """Which of the two published label tables to use; `factors`: the phantom's ground truth."""
    patients: Path | None = Field(None, strict=False)
    """patients.csv.gz of MIMIC-IV, for sex and age, which MIMIC-CXR lacks. Default: unknown."""
    views: tuple[str, ...] = Field(("PA", "AP"), strict=False)
    """ViewPosition values to keep; LATERAL and LL are lateral views."""
    keep_missing_view: bool = False
    """Whether to keep images whose ViewPosition is blank (some 16,000 in the real table)."""


class OpenISource(Section):
    """The Indiana University collection: ecgen-radiology/*.xml, images/, optionally a label CSV."""

    kind: Literal["open-i"] = "open-i"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with `ecgen-radiology/` and `images/`."""
    label_csv: Path | None = Field(None, strict=False)
    """CSV with `dicom_id`, `gold_<finding>` columns and optionally `split` and `view`. Default: `labels.csv` in root,
    if present."""
    views: tuple[str, ...] = Field((), strict=False)
    """Values of the CSV's `view` column to keep. Empty: all listed images."""
    validate_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for validation, if the CSV has no split."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for test, if the CSV has no split."""

    _train_is_not_empty = model_validator(mode="after")(_leave_subjects_to_train)


_ABOUT_A_COLUMN = {("views", "keep_missing_view"): "view_column", ("report_language",): "report_column"}
"""Settings of ImageFolderSource that say how a column is read, and the setting that names it."""


class ImageFolderSource(Section):
    """Any folder of images with a label CSV whose columns are named here. Reports only if a column holds them."""

    kind: Literal["image-folder"] = "image-folder"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder that the paths in the CSV are relative to."""
    label_csv: Path = Field(strict=False)
    """CSV with one row per image."""
    name: str = Field("image-folder", min_length=1)
    """Value of the shards' `source` column."""
    path_column: str = "image"
    """Column with the image's path."""
    subject_column: str | None = None
    """Column that identifies the patient; without it, every study, or without that every image, counts as a different
    patient."""
    study_column: str | None = None
    """Column that identifies the study. Ids that several patients share, as where each patient's are counted from 1,
    become `PATIENT/STUDY`."""
    view_column: str | None = None
    """Column with the projection (PA, AP, ...)."""
    views: tuple[str, ...] = Field(("PA", "AP", "AP_horizontal", "Frontal"), strict=False)
    """Values of view_column to keep, ignoring case, and how the shards spell them; other images are skipped and
    counted."""
    keep_missing_view: bool = False
    """Whether to keep images whose view_column is blank."""
    report_column: str | None = None
    """Column with the report text."""
    report_language: str = Field("en", pattern="^[a-z]{2,3}$")
    """Language of the reports, as an ISO 639 code (de, fr, ...). Only English ones are parsed, trained on and scored;
    others are kept as text."""
    sex_column: str | None = None
    """Column with the patient's sex: F, M, female or male."""
    age_column: str | None = None
    """Column with the patient's age at the image's date: 58, 58.5, 058Y, 007M; of a group (60-64, 90+), the lowest."""
    manufacturer_column: str | None = None
    """Column with the manufacturer of the device."""
    sex_and_age_from_headers: bool = False
    """Whether DICOM headers tell sex and age where no column does."""
    split_column: str | None = None
    """Column with train / validate / test; without it, subjects are split by hash."""
    label_columns: tuple[str, ...] = Field((), strict=False)
    """Columns with one label each: 1, 0, -1 or blank. `NIH14` or `CHEXPERT` stands for that collection's 14 labels."""
    class_column: str | None = None
    """Instead of label_columns: one column with the class of each image, or a list of its labels."""
    label_separator: str | None = Field("|", min_length=1)
    """Separator between labels in class_column; Python lists are always recognised."""
    validate_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for validation, if the CSV has no split."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for test, if the CSV has no split."""

    _train_is_not_empty = model_validator(mode="after")(_leave_subjects_to_train)

    @model_validator(mode="after")
    def _no_setting_is_without_effect(self) -> "ImageFolderSource":
        for names, column in _ABOUT_A_COLUMN.items():
            chosen = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if chosen and getattr(self, column) is None:
                raise ValueError(f"{' and '.join(chosen)} would have no effect without {column}; give both, or neither")
        return self


class NihCxr14Source(Section):
    """NIH ChestX-ray14, 2017 and 2020 releases: Data_Entry_2017*.csv, the official split lists and the image folders as
    unpacked."""

    kind: Literal["nih-cxr14"] = "nih-cxr14"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with Data_Entry_2017*.csv, the official lists and `images/` or `images_001/images/` and so on."""
    views: tuple[str, ...] = Field(("PA", "AP"), strict=False)
    """View Position values to keep."""
    keep_missing_view: bool = False
    """Whether to keep images whose View Position is blank."""
    validate_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the subjects of the official train_val list held out for validation."""
    test_fraction: float = Field(0.2, ge=0, lt=1)
    """Share of subjects held out for test, if the official lists are missing."""

    _train_is_not_empty = model_validator(mode="after")(_leave_subjects_to_train)


class ChexpertSource(Section):
    """CheXpert v1.0, small or full: train.csv, valid.csv and the images. Frontal images only, unless `views` adds
    laterals."""

    kind: Literal["chexpert"] = "chexpert"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with train.csv, valid.csv, `train/` and `valid/`."""
    reports: Path | None = Field(None, strict=False)
    """df_chexpert_plus_240401.csv of CheXpert Plus, for reports, which v1.0 lacks. Default: no reports."""
    views: tuple[str, ...] = Field(("Frontal",), strict=False)
    """Frontal/Lateral values to keep. `Frontal,Lateral` also keeps laterals, as view LATERAL."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of train.csv's subjects held out for test; valid.csv becomes the validate split."""


class PadChestSource(Section):
    """PadChest: its 2019 label table and 16-bit images. Labels are mapped to the 14 of CheXpert; reports are in
    Spanish."""

    kind: Literal["padchest"] = "padchest"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv and the images, `0/` to `54/`."""
    views: tuple[str, ...] = Field(("PA", "AP", "AP_horizontal"), strict=False)
    """Projection values to keep."""
    keep_missing_view: bool = False
    """Whether to keep images whose Projection is blank."""
    validate_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for validation."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for test."""

    _train_is_not_empty = model_validator(mode="after")(_leave_subjects_to_train)


class VindrCxrSource(Section):
    """VinDr-CXR 1.0.0: annotations/, train/ and test/ (DICOM). Labels are a vote of three readers per image."""

    kind: Literal["vindr-cxr"] = "vindr-cxr"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with `annotations/`, `train/` and `test/`."""
    readers: Literal["majority", "any"] = "majority"
    """How many of a train image's three readers must agree on a label; with `any`, "No Finding" needs all three."""
    validate_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the official train images held out for validation."""


class RsnaPneumoniaSource(Section):
    """RSNA Pneumonia Detection Challenge, stage 2 (DICOM). Its images are a subset of NIH ChestX-ray14."""

    kind: Literal["rsna-pneumonia"] = "rsna-pneumonia"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with stage_2_train_labels.csv, stage_2_detailed_class_info.csv and `stage_2_train_images/`."""
    nih_mapping: Path | None = Field(None, strict=False)
    """pneumonia-challenge-dataset-mappings_2018.json of RSNA, for the patients, who are NIH's. Default: each image
    counts as one."""
    nih_root: Path | None = Field(None, strict=False)
    """NIH ChestX-ray14's folder; with nih_mapping, each patient is in the same split as there."""
    validate_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for validation."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for test, if nih_root does not decide."""

    _train_is_not_empty = model_validator(mode="after")(_leave_subjects_to_train)


class BraxSource(Section):
    """BRAX 1.1.0: master_spreadsheet_update.csv and the PNG images."""

    kind: Literal["brax"] = "brax"
    """Source kind."""
    root: Path = Field(strict=False)
    """Folder with master_spreadsheet_update.csv and `images/`."""
    views: tuple[str, ...] = Field(("PA", "AP"), strict=False)
    """ViewPosition values to keep."""
    keep_missing_view: bool = False
    """Whether to keep images whose ViewPosition is blank."""
    validate_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for validation."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of subjects held out for test."""

    _train_is_not_empty = model_validator(mode="after")(_leave_subjects_to_train)


Source = Annotated[
    MimicCxrSource
    | OpenISource
    | NihCxr14Source
    | ChexpertSource
    | PadChestSource
    | VindrCxrSource
    | RsnaPneumoniaSource
    | BraxSource
    | ImageFolderSource,
    Field(discriminator="kind"),
]


class IngestConfig(Section):
    """Raw collection -> sharded Parquet, manifest, vocabulary."""

    source: Source | None = None
    """Which collection to read, and where it is."""
    out: Path | None = Field(None, strict=False)
    """Output folder for shards."""
    side_px: Annotated[Literal[32, 64, 128, 256], ExactInteger] = 128
    """Side of the square images in the shards [px]."""
    fit: Literal["crop", "pad", "squeeze"] = "crop"
    """How an image is made square: centre crop to the short side, black padding to the long side, or squeezing without
    regard to aspect ratio."""
    missing_findings: Literal["drop", "impression", "impression-or-last-paragraph", "keep-without-report"] = (
        "impression-or-last-paragraph"
    )
    """What to do with a study whose report has no findings section."""
    min_token_count: int = Field(6, ge=1)
    """Tokens that are rarer in train become <UNK>. EMIXER §6.3.1: 6."""
    min_token_patients: int = Field(1, ge=1)
    """Tokens in the train reports of fewer patients become <UNK> too: a name may stand in many reports of one patient.
    2 for a model that is to be published, which `emixer publish` asks for."""
    rows_per_shard: int = Field(4096, ge=1)
    """Images per shard file."""
    row_group_bytes: int = Field(4 * 2**20, ge=4096, le=16 * 2**20)
    """Maximum pixel bytes per row group; small row groups stream and shuffle well."""
