"""`emixer phantom`."""

from emixer.cli.base import setting, stage_command


@stage_command("phantom", stage="emixer.stages.phantom", requires=("phantom.out",))
@setting("--studies", "phantom.studies")
@setting("--out", "phantom.out")
@setting("--height-px", "phantom.height_px")
@setting("--seed", "seed")
@setting("--broken-files", "phantom.broken_files")
@setting("--duplicate-fraction", "phantom.duplicate_fraction")
@setting("--studies-per-task", "phantom.studies_per_task")
def command() -> None:
    """Write a procedural collection in the MIMIC-CXR-JPG layout.

    Draws chest films with matching reports and the 14 CheXpert labels, as a stand-in for MIMIC-CXR where that cannot
    be had, and keeps the truth behind every film in factors.parquet. Films, reports and tables are the same bytes for
    the same seed, however many workers draw them; study i is the same in a collection of any size. An interrupted run
    goes on when the same command is given again.

    \b
    Two thousand studies, then shards of them:
      emixer phantom --studies 2000 --out data/phantom
      emixer ingest mimic-cxr --root data/phantom --out data/shards --side-px 64
    """
