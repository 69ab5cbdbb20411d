"""`emixer ingest`: one command for each kind of collection."""

from collections.abc import Callable, Sequence

import click

from emixer.cli.base import setting, stage_command
from emixer.cli.group import CommandGroup

_COMMON = (
    ("--out", "ingest.out"),
    ("--side-px", "ingest.side_px"),
    ("--fit", "ingest.fit"),
    ("--missing-findings", "ingest.missing_findings"),
    ("--min-token-count", "ingest.min_token_count"),
    ("--rows-per-shard", "ingest.rows_per_shard"),
)


def _ingest_command(
    kind: str, settings: Sequence[str], *also_required: str
) -> Callable[[Callable[..., None]], click.Command]:
    """A command for one kind of collection, with a flag for each of its settings and for those of every kind."""

    def decorate(function: Callable[..., None]) -> click.Command:
        for flag, key in reversed(_COMMON):
            function = setting(flag, key)(function)
        for name in reversed(settings):
            function = setting(f"--{name.replace('_', '-')}", f"ingest.source.{name}", kind=kind)(function)
        requires = ("ingest.source.root", *also_required, "ingest.out")
        preset = {"ingest.source.kind": kind}
        return stage_command(kind, stage="emixer.stages.ingest", preset=preset, requires=requires)(function)

    return decorate


@_ingest_command(
    "mimic-cxr", ("root", "reports_root", "image_format", "labeler", "patients", "views", "keep_missing_view")
)
def mimic_cxr() -> None:
    """MIMIC-CXR-JPG 2.0.0 or MIMIC-CXR as PhysioNet publishes them, or the phantom.

    Splits are the official ones. Reports come with MIMIC-CXR, not with MIMIC-CXR-JPG: unpack mimic-cxr-reports.zip and
    pass its folder as --reports-root, or unpack it into the root. For MIMIC-CXR's own DICOM images use
    --image-format dicom and copy the tables of MIMIC-CXR-JPG into its root.

    \b
      emixer ingest mimic-cxr --root /data/mimic-cxr-jpg --reports-root /data/mimic-cxr-reports \\
          --out /data/shards-128 --side-px 128
    With lateral views, and with sex and age from MIMIC-IV, for models conditioned on them:
      emixer ingest mimic-cxr --root /data/mimic-cxr-jpg --reports-root /data/mimic-cxr-reports \\
          --patients /data/mimic-iv/hosp/patients.csv.gz --views PA,AP,LATERAL,LL --out /data/shards-views
    """


@_ingest_command("open-i", ("root", "label_csv", "views", "validate_fraction", "test_fraction"))
def open_i() -> None:
    """The Indiana University collection: ecgen-radiology/*.xml and images/.

    With a label CSV, only the images it lists are read, filtered by its `view` column if --views is given; without
    one, all images are read.

    \b
      emixer ingest open-i --root data/indiana --out data/shards-indiana --side-px 64
    """


@_ingest_command(
    "image-folder",
    (
        "root",
        "label_csv",
        "name",
        "path_column",
        "label_columns",
        "class_column",
        "label_separator",
        "subject_column",
        "study_column",
        "view_column",
        "views",
        "keep_missing_view",
        "split_column",
        "report_column",
        "validate_fraction",
        "test_fraction",
    ),
    "ingest.source.label_csv",
)
def image_folder() -> None:
    """Any folder of images with a CSV that has one row per image.

    Give the subject column if there is one, so that splits do not share subjects. With a view column, lateral images
    are skipped and counted. Cells of the class column may list several labels: A|B, or ['A', 'B'].

    \b
      emixer ingest image-folder --root data/ours --label-csv data/ours/labels.csv --name ours \\
          --label-columns CHEXPERT --subject-column subject_id --view-column view --out data/shards-ours
      emixer ingest image-folder --root data/covid --label-csv data/covid/labels.csv --name covid \\
          --class-column label --subject-column patient_id --out data/shards-covid
    """


@_ingest_command("nih-cxr14", ("root", "views", "keep_missing_view", "validate_fraction", "test_fraction"))
def nih_cxr14() -> None:
    """NIH ChestX-ray14: Data_Entry_2017*.csv, the official split lists and the image folders as unpacked.

    \b
      emixer ingest nih-cxr14 --root /data/nih-cxr14 --out /data/shards-nih
    """


@_ingest_command("chexpert", ("root", "reports", "views", "test_fraction"))
def chexpert() -> None:
    """CheXpert v1.0, small or full: train.csv, valid.csv and the images. Frontal images only, unless --views adds
    laterals.

    \b
      emixer ingest chexpert --root /data/CheXpert-v1.0-small --out /data/shards-chexpert
    With the reports of CheXpert Plus:
      emixer ingest chexpert --root /data/CheXpert-v1.0-small \\
          --reports /data/chexpert-plus/df_chexpert_plus_240401.csv --out /data/shards-chexpert
    """


@_ingest_command("padchest", ("root", "views", "keep_missing_view", "validate_fraction", "test_fraction"))
def padchest() -> None:
    """PadChest: label table and 16-bit images. Labels are mapped to the 14 of CheXpert; reports are in Spanish.

    \b
      emixer ingest padchest --root /data/padchest --out /data/shards-padchest
    """


@_ingest_command("vindr-cxr", ("root", "readers", "validate_fraction"))
def vindr_cxr() -> None:
    """VinDr-CXR 1.0.0: annotations/, train/ and test/ (DICOM). Labels are a vote of three readers per image.

    \b
      emixer ingest vindr-cxr --root /data/vindr-cxr/1.0.0 --out /data/shards-vindr
    """


@_ingest_command("rsna-pneumonia", ("root", "nih_mapping", "nih_root", "validate_fraction", "test_fraction"))
def rsna_pneumonia() -> None:
    """RSNA Pneumonia Detection Challenge, stage 2 (DICOM). Its images are a subset of NIH ChestX-ray14.

    \b
      emixer ingest rsna-pneumonia --root /data/rsna-pneumonia --out /data/shards-rsna
    With NIH's patients and splits, so that the two collections can be used together:
      emixer ingest rsna-pneumonia --root /data/rsna-pneumonia --nih-root /data/nih-cxr14 \\
          --nih-mapping /data/rsna-pneumonia/pneumonia-challenge-dataset-mappings_2018.json --out /data/shards-rsna
    """


@_ingest_command("brax", ("root", "views", "keep_missing_view", "validate_fraction", "test_fraction"))
def brax() -> None:
    """BRAX 1.1.0: master_spreadsheet_update.csv and the PNG images.

    \b
      emixer ingest brax --root /data/brax/1.1.0 --out /data/shards-brax
    """


@click.group("ingest", cls=CommandGroup)
def command() -> None:
    """Convert a raw collection to shards: Parquet, manifest, vocabulary, quarantine table.

    Images are decoded, converted to square grayscale and checked; reports are reduced to their findings; exact
    duplicates are dropped. Bad files go to quarantine.parquet and never stop the run. Run a command again to resume.
    """


for _command in (mimic_cxr, open_i, nih_cxr14, chexpert, padchest, vindr_cxr, rsna_pneumonia, brax, image_folder):
    command.add_command(_command)
