"""`emixer phantom`."""

from emixer.cli.base import setting, stage_command


@stage_command("phantom", stage="emixer.stages.phantom", requires=("phantom.out",))
@setting("--layout", "phantom.layout")
@setting("--studies", "phantom.studies")
@setting("--out", "phantom.out")
@setting("--height-px", "phantom.height_px")
@setting("--seed", "seed")
@setting("--broken-files", "phantom.broken_files")
@setting("--duplicate-fraction", "phantom.duplicate_fraction")
@setting("--studies-per-task", "phantom.studies_per_task")
def command() -> None:
    """Write a procedural collection in the layout of MIMIC-CXR-JPG or of another published collection.

    Draws chest images with matching reports and the 14 CheXpert labels, as a stand-in for MIMIC-CXR where you have no
    access to it, and writes the ground truth of every image to factors.parquet. Images, reports and tables are
    byte-identical for a given seed, whatever the number of workers; study i is the same in a collection of any size.
    Run the same command again to resume.

    \b
    What `emixer demo` draws, 1,500 studies 192 px high, then shards of 32 px:
      emixer phantom --config demo --out data/phantom
      emixer ingest mimic-cxr --config demo --root data/phantom --out data/shards
    \b
    Larger ones, 512 px high, then shards of 64 px:
      emixer phantom --studies 4000 --out data/phantom
      emixer ingest mimic-cxr --root data/phantom --out data/shards --side-px 64
    \b
    The same in the layout of another collection:
      emixer phantom --layout vindr-cxr --studies 200 --out data/vindr
      emixer ingest vindr-cxr --root data/vindr --out data/shards-vindr --side-px 64
    """
