"""Raw collection -> shards on Ray Data: decode blocks, judge them all, assemble shards.

    tables --(driver)--> plan --(tasks: one a block)--> decoded blocks --(driver)--> selection
           --(tasks: one a shard)--> shards --(driver)--> vocabulary, quarantine, manifest

Reasons: docs/decisions/003-ingest.md. Tasks communicate through files in `ingest.out`, which every node must see; what
passes through Ray are block numbers, so memory does not grow with the collection. Each file is written whole or not at
all, and what is there is not made again: giving the same command again goes on.
"""

import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow.compute as pc
import ray.data

from emixer import errors
from emixer.config import Config
from emixer.config.ingest import IngestConfig
from emixer.data.arrow_memory import release_unused
from emixer.data.assemble_shard import ShardAssembler, ShardRecord, read_record
from emixer.data.decode_block import BlockDecoder
from emixer.data.dicom import DICOM_NAME, require_dicom
from emixer.data.manifest import write_manifest
from emixer.data.plan import Plan, PlannedShard, Workspace, make_plan
from emixer.data.schema import MANIFEST_NAME
from emixer.data.selection import decide
from emixer.data.sources import read_collection
from emixer.errors import EmixerError, SourceError
from emixer.progress import Progress
from emixer.ray_session import connect


@dataclass(frozen=True)
class Ingest:
    """An ingest that has been planned: its tables are read and found good, its images not yet opened."""

    config: Config
    plan: Plan
    workspace: Workspace


@dataclass(frozen=True)
class IngestOutcome:
    """out: shard folder. images_decoded: in this call, not by earlier ones it went on from; decode_s: of that.

    shards_written: in this call, those without a kept image included.
    """

    out: Path
    manifest: dict[str, Any]
    images_decoded: int
    decode_s: float
    shards_written: int


def plan_ingest(config: Config) -> Ingest:
    """Reads and checks the collection's tables. Raises SourceError, RunFolderError or ConfigError; writes nothing."""
    settings = config.ingest
    assert settings.source is not None, "the stage requires it"
    assert settings.out is not None, "the stage requires it"
    plan = make_plan(read_collection(settings.source), settings)
    if pc.any(pc.match_substring_regex(plan.images["image_path"], DICOM_NAME, ignore_case=True)).as_py():
        require_dicom(f"Ingest of {plan.collection.source}, whose images are DICOM files,")
    workspace = Workspace(settings.out.absolute())
    workspace.check(plan)
    return Ingest(config, plan, workspace)


def run_ingest(ingest: Ingest) -> IngestOutcome:
    """Does what is left to do. Raises StorageError, SourceError or RunFolderError; what is finished stays.

    A caller who keeps no `ingest` lets go of the image table, which is on disk once there is a folder for it.
    """
    workspace = ingest.workspace
    with workspace.opened(ingest.plan) as plan:
        ingest = replace(ingest, plan=plan)
        release_unused()
        records = {shard.name: read_record(workspace, shard.name) for shard in plan.shards}
        missing = [shard for shard in plan.shards if records[shard.name] is None]
        images_decoded, decode_s = 0, 0.0
        if missing:
            # a folder that is being written is not a finished one
            (workspace.out / MANIFEST_NAME).unlink(missing_ok=True)
            with connect(ingest.config.ray):
                start = time.monotonic()
                images_decoded = _decode(ingest, missing)
                decode_s = time.monotonic() - start
                workspace.look_again()
                _judge(ingest)
                _assemble(ingest, missing)
                workspace.look_again()
        made = [records[shard.name] or read_record(workspace, shard.name) for shard in plan.shards]
        manifest = _finish(ingest, made)
    return IngestOutcome(workspace.out, manifest, images_decoded, decode_s, len(missing))


def _decode(ingest: Ingest, missing: Sequence[PlannedShard]) -> int:
    """Phase 1: decodes the blocks of unfinished shards, or all that are not there as long as nothing is judged."""
    plan, workspace = ingest.plan, ingest.workspace
    todo = [i for shard in missing for i in shard.blocks if not workspace.block(i).exists()]
    total = plan.num_images([i for shard in missing for i in shard.blocks])
    return _run_tasks("decode", decoder_of(ingest).decode, todo, total, done=total - plan.num_images(todo))


def decoder_of(ingest: Ingest) -> BlockDecoder:
    """How this ingest reads images and reports."""
    settings, collection = ingest.config.ingest, ingest.plan.collection
    return BlockDecoder(
        workspace=ingest.workspace,
        images_root=collection.images_root.absolute(),
        reports_root=collection.reports_root and collection.reports_root.absolute(),
        side_px=settings.side_px,
        fit=settings.fit,
        missing_findings=settings.missing_findings,
        has_reports=collection.has_reports,
        report_language=collection.report_language,
        from_headers=collection.from_headers,
    )


def _judge(ingest: Ingest) -> None:
    """Between the phases: selection over all images, made once; a shard that is remade later keeps its selection."""
    if not ingest.workspace.selection.exists():
        decide(ingest.plan, ingest.workspace, ingest.config.ingest.missing_findings)


def _assemble(ingest: Ingest, missing: Sequence[PlannedShard]) -> None:
    """Phase 2."""
    assembler = ShardAssembler.of(ingest.plan, ingest.workspace)
    todo = [ingest.plan.shards.index(shard) for shard in missing]
    _run_tasks("write shards", assembler.assemble, todo, sum(shard.num_images for shard in missing))


def _finish(ingest: Ingest, records: Sequence[ShardRecord | None]) -> dict[str, Any]:
    whole = [record for record in records if record is not None]
    assert len(whole) == len(records), "every planned shard has been written"
    manifest = write_manifest(ingest.plan, ingest.workspace, whole, ingest.config.ingest)
    shutil.rmtree(ingest.workspace.blocks, ignore_errors=True)
    if not manifest["shards"]:
        raise SourceError(_nothing_kept(manifest, ingest.workspace.out))
    return manifest


def _nothing_kept(manifest: dict[str, Any], out: Path) -> str:
    reasons = [f"{n:,} {reason}" for stage in manifest["left_out"].values() for reason, n in stage.items()]
    return (
        f"None of the {manifest['images_selected']:,} images could be kept: {'; '.join(reasons)}. "
        f"{out / 'quarantine.parquet'} lists each. Check ingest.source, then delete {out} and run the command again."
    )


def _run_tasks(label: str, work: Callable[[int], int], items: Sequence[int], total: int, done: int = 0) -> int:
    """Runs `work` on each number as a Ray Data task, showing the images done. Raises the first EmixerError of a
    task."""
    if not items:
        return 0
    dataset = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    images: int = 0
    # closed on errors too: Ray Data's thread would go on, and call Ray once this process has left it
    rows = closing(cast(Generator[dict[str, Any]], iter(dataset.map(_Task(work), num_cpus=1).iter_rows())))
    with Progress(label, total, "images", done=done) as progress, rows as answers:
        for row in answers:
            if row["error"]:
                raise getattr(errors, row["error"])(row["message"])
            images += int(row["images"])
            progress.update(done + images)
    return images


@dataclass(frozen=True)
class _Task:
    """Carries an EmixerError back as a value: Ray Data would wrap it and lose its type."""

    work: Callable[[int], int]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"images": self.work(row["item"]), "error": "", "message": ""}
        except EmixerError as error:
            return {"images": 0, "error": type(error).__name__, "message": str(error)}


def estimated_bytes(plan: Plan, settings: IngestConfig, has_reports: bool) -> int:
    """What the shards will take at most, about: pixels, and 400 bytes of compressed text an image with a report."""
    bytes_per_image = settings.side_px**2 + 50 + (400 if has_reports else 0)
    return plan.num_planned * bytes_per_image
