"""`emixer ingest`: one command for each kind of collection.

Most are made from the section of their settings; those that need more words are written here.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import get_args

import click

from emixer.cli.base import setting, stage_command
from emixer.cli.group import CommandGroup
from emixer.config.base import Section
from emixer.config.ingest import Source

_COMMON = (
    ("--out", "ingest.out"),
    ("--side-px", "ingest.side_px"),
    ("--fit", "ingest.fit"),
    ("--missing-findings", "ingest.missing_findings"),
    ("--min-token-count", "ingest.min_token_count"),
    ("--min-token-patients", "ingest.min_token_patients"),
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
        "report_language",
        "sex_column",
        "age_column",
        "manufacturer_column",
        "sex_and_age_from_headers",
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
    With German reports, and sex and age for models conditioned on them:
      emixer ingest image-folder --root data/ours --label-csv data/ours/labels.csv --name ours \\
          --label-columns Pneumonia,Edema --subject-column PatientID --view-column view \\
          --report-column report --report-language de --sex-column sex --age-column age --out data/shards-ours
    """


@click.group("ingest", cls=CommandGroup)
def command() -> None:
    """Convert a raw collection to shards: Parquet, manifest, vocabulary, quarantine table.

    Images are decoded, converted to square grayscale and checked; reports are reduced to their findings; exact
    duplicates are dropped. Bad files go to quarantine.parquet and never stop the run. Run a command again to resume.
    """


def _command_of(section: type[Section]) -> click.Command:
    """Of a source without a command above: its section's docstring as help, and a flag for each of its settings."""
    kind = section.model_fields["kind"].default
    names = [name for name in section.model_fields if name != "kind"]
    required = [f"ingest.source.{name}" for name in names if section.model_fields[name].is_required()]

    def ingest() -> None: ...

    example = f"emixer ingest {kind} --root /data/{kind} --out /data/shards-{kind}"
    ingest.__doc__ = f"{inspect.getdoc(section)}\n\n\b\n  {example}\n"
    return _ingest_command(kind, names, *required)(ingest)


for _command in (mimic_cxr, open_i, image_folder):
    command.add_command(_command)
for _section in get_args(get_args(Source)[0]):
    if _section.model_fields["kind"].default not in command.commands:
        command.add_command(_command_of(_section))
