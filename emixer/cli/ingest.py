"""`emixer ingest`: one command for each kind of collection."""

from collections.abc import Callable
from typing import Any

import click

from emixer.cli.base import setting, stage_command
from emixer.cli.group import CommandGroup

_REQUIRES = ("ingest.source.root", "ingest.out")


def _common(function: Callable[..., None]) -> Any:
    """Settings that every kind of collection has."""
    for flag, key in (
        ("--rows-per-shard", "ingest.rows_per_shard"),
        ("--min-token-count", "ingest.min_token_count"),
        ("--missing-findings", "ingest.missing_findings"),
        ("--fit", "ingest.fit"),
        ("--side-px", "ingest.side_px"),
        ("--out", "ingest.out"),
    ):
        function = setting(flag, key)(function)
    return function


def _ingest_command(kind: str, *also_required: str) -> Callable[[Callable[..., None]], click.Command]:
    requires = (*_REQUIRES, *also_required)
    return stage_command(kind, stage="emixer.stages.ingest", preset={"ingest.source.kind": kind}, requires=requires)


@_ingest_command("mimic-cxr")
@setting("--root", "ingest.source.root")
@setting("--reports-root", "ingest.source.reports_root")
@setting("--labeler", "ingest.source.labeler")
@setting("--views", "ingest.source.views")
@setting("--keep-missing-view", "ingest.source.keep_missing_view")
@_common
def mimic_cxr() -> None:
    """MIMIC-CXR-JPG 2.0.0 as PhysioNet publishes it, or the phantom.

    Splits are the official ones. Reports come with MIMIC-CXR, not with MIMIC-CXR-JPG: unpack mimic-cxr-reports.zip and
    name the folder with --reports-root, or unpack it into the root.

    \b
      emixer ingest mimic-cxr --root /data/mimic-cxr-jpg --reports-root /data/mimic-cxr-reports \\
          --out /data/shards-128 --side-px 128
    """


@_ingest_command("open-i")
@setting("--root", "ingest.source.root")
@setting("--label-csv", "ingest.source.label_csv")
@setting("--validate-fraction", "ingest.source.validate_fraction")
@setting("--test-fraction", "ingest.source.test_fraction")
@_common
def open_i() -> None:
    """The Indiana University collection: ecgen-radiology/*.xml and images/.

    With a label CSV only the films that it lists are read (leave laterals out this way); without one, all.

    \b
      emixer ingest open-i --root data/indiana --out data/shards-indiana --side-px 64
    """


@_ingest_command("image-folder", "ingest.source.label_csv")
@setting("--root", "ingest.source.root")
@setting("--label-csv", "ingest.source.label_csv")
@setting("--name", "ingest.source.name")
@setting("--path-column", "ingest.source.path_column")
@setting("--label-columns", "ingest.source.label_columns")
@setting("--class-column", "ingest.source.class_column")
@setting("--subject-column", "ingest.source.subject_column")
@setting("--study-column", "ingest.source.study_column")
@setting("--view-column", "ingest.source.view_column")
@setting("--split-column", "ingest.source.split_column")
@setting("--report-column", "ingest.source.report_column")
@setting("--validate-fraction", "ingest.source.validate_fraction")
@setting("--test-fraction", "ingest.source.test_fraction")
@_common
def image_folder() -> None:
    """Any folder of films with a CSV of one row a film.

    Name the subject column if there is one: splits never share a subject.

    \b
      emixer ingest image-folder --root data/nih --label-csv data/nih/labels.csv --name nih \\
          --label-columns NIH14 --subject-column subject_id --view-column view --out data/shards-nih
      emixer ingest image-folder --root data/covid --label-csv data/covid/labels.csv --name covid \\
          --class-column label --subject-column patient_id --out data/shards-covid
    """


@click.group("ingest", cls=CommandGroup)
def command() -> None:
    """Turn a raw collection into shards: Parquet, manifest, vocabulary, quarantine table.

    Films are decoded, made square and gray, and checked; reports are cut down to their findings; exact duplicates go;
    what is bad is listed in quarantine.parquet and never stops the run. Given again, a command goes on where it was.
    """


for _command in (mimic_cxr, open_i, image_folder):
    command.add_command(_command)
