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


@_ingest_command("mimic-cxr", ("root", "reports_root", "labeler", "views", "keep_missing_view"))
def mimic_cxr() -> None:
    """MIMIC-CXR-JPG 2.0.0 as PhysioNet publishes it, or the phantom.

    Splits are the official ones. Reports come with MIMIC-CXR, not with MIMIC-CXR-JPG: unpack mimic-cxr-reports.zip and
    name the folder with --reports-root, or unpack it into the root.

    \b
      emixer ingest mimic-cxr --root /data/mimic-cxr-jpg --reports-root /data/mimic-cxr-reports \\
          --out /data/shards-128 --side-px 128
    """


@_ingest_command("open-i", ("root", "label_csv", "validate_fraction", "test_fraction"))
def open_i() -> None:
    """The Indiana University collection: ecgen-radiology/*.xml and images/.

    With a label CSV only the films that it lists are read (leave laterals out this way); without one, all.

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
    """Any folder of films with a CSV of one row a film.

    Name the subject column if there is one: splits never share a subject. With a view column lateral films are left
    out and counted. Cells of the class column may list several labels: A|B, or ['A', 'B'].

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
