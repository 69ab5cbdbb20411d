"""`emixer ingest`: raw collection -> shards, manifest, vocabulary, quarantine table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emixer import files
from emixer.config import Config
from emixer.config.ingest import ImageFolderSource
from emixer.data.ingest import Ingest, IngestOutcome, estimated_bytes, plan_ingest, run_ingest
from emixer.data.schema import SPLITS
from emixer.errors import ConfigError, SourceError
from emixer.stages.result import StageResult

_SAMPLED_IMAGES = 200
_NAMED_LABELS = 5
_SIDE_OF_DEMO_PX = 32
"""Of the config that a first training is suggested with; with images of another size it is told theirs."""


class IngestResult(IngestOutcome, StageResult):
    """What a finished ingest came to; prints as the summary of the command."""

    @property
    def nothing_to_do(self) -> bool:
        return not self.shards_written

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"shards": self.out}

    @property
    def figures(self) -> Mapping[str, Any]:
        told = ("images_selected", "splits", "labels", "reports", "left_out", "kept_with_remark",
                "not_selected", "remarks", "unmapped_labels", "vocabulary")  # fmt: skip
        done = {
            "images_decoded": self.images_decoded,
            "decode_s": self.decode_s,
            "shards_written": self.shards_written,
        }
        return {name: self.manifest[name] for name in told} | done

    def __str__(self) -> str:
        manifest = self.manifest
        kept = sum(split["images"] for split in manifest["splits"].values())
        lines = [f"Ingested {kept:,} of {manifest['images_selected']:,} images into {self.out}", ""]
        lines += [*_split_table(manifest), "", *_label_table(manifest), ""]
        lines += [*_reports(manifest), *_left_out(manifest)]
        vocabulary = manifest["vocabulary"]
        if vocabulary["token_occurrences_in_train"]:
            share = vocabulary["unknown_occurrences_in_train"] / vocabulary["token_occurrences_in_train"]
            lines.append(f"Vocabulary: {vocabulary['tokens']:,} tokens; {share:.1%} of words in train are <UNK>")
        if self.images_decoded:
            rate = self.images_decoded / max(self.decode_s, 1e-9)
            lines.append(f"Decoded {self.images_decoded:,} images in {self.decode_s:,.0f} s ({rate:,.0f} images/s)")
        elif self.shards_written:
            lines.append(f"Wrote {self.shards_written:,} shards of images that were already decoded")
        else:
            lines.append("Already complete; nothing was written.")
        side_px = manifest["settings"]["side_px"]
        side = "" if side_px == _SIDE_OF_DEMO_PX else f" --set model.side_px={side_px}"
        lines += ["Next:", f"  emixer train --config demo{side} --shards {self.out} --run runs/first"]
        return "\n".join(lines)


def run(config: Config) -> IngestResult:
    """Ingests `ingest.source` into `ingest.out`, or resumes.

    Raises ConfigError, SourceError or RunFolderError before any image is opened; StorageError when a disk is full.
    """
    return IngestResult(**vars(run_ingest(_planned(config))))


def describe(config: Config) -> str:
    """What `run` would do. Checks all tables, opens no image, writes nothing.

    Raises what `run` does before any image is opened, and SourceError when none of a sample of the images exists.
    """
    ingest = _planned(config)
    images, settings = ingest.plan.images, config.ingest
    needed = estimated_bytes(ingest.plan, settings, ingest.plan.collection.has_reports)
    lines = [f"Would ingest {images.num_rows:,} images of {ingest.plan.collection.source} into {ingest.workspace.out}"]
    for split in SPLITS:
        shards = [shard for shard in ingest.plan.shards if shard.split == split]
        lines.append(f"  {split:<10}{sum(s.num_images for s in shards):>10,} images in {len(shards):,} shards")
    lines += [f"  not selected: {count:,} {reason}" for reason, count in ingest.plan.collection.not_selected.items()]
    lines += [f"  {reason}: {count:,}" for reason, count in ingest.plan.collection.remarks.items()]
    lines += [f"  {line}" for line in _unmapped(ingest.plan.collection.unmapped_labels)]
    there, sampled = _images_on_disk(ingest)
    if not there:
        raise SourceError(_where_images_were_sought(ingest, sampled))
    lines.append(f"  {there} of {sampled} sampled images exist under {ingest.plan.collection.images_root}")
    lines.append(
        f"  {settings.side_px} x {settings.side_px} px, {settings.fit}; reports: {ingest.plan.info.section_rule}"
    )
    free = _size(files.free_bytes(ingest.workspace.out))
    lines.append(f"  disk: about {_size(needed)}, twice that while running; {free} free")
    return "\n".join(lines)


def _planned(config: Config) -> Ingest:
    if config.ingest.source is None or config.ingest.out is None:
        raise ConfigError(
            "ingest.source and ingest.out must be set, e.g. emixer ingest mimic-cxr --root DIR --out DIR."
        )
    files.require_writable(config.ingest.out.absolute())
    return plan_ingest(config)


def _images_on_disk(ingest: Ingest) -> tuple[int, int]:
    images = ingest.plan.images["image_path"]
    rows = np.unique(np.linspace(0, len(images) - 1, _SAMPLED_IMAGES).astype(int))
    return sum((ingest.plan.collection.images_root / images[int(i)].as_py()).exists() for i in rows), len(rows)


def _where_images_were_sought(ingest: Ingest, sampled: int) -> str:
    source, root = ingest.config.ingest.source, ingest.plan.collection.images_root
    column = f"the paths of column {source.path_column!r} are" if isinstance(source, ImageFolderSource) else "paths are"
    return (
        f"None of {sampled} sampled images exists under {root}: {column} relative to it. Check ingest.source.root, "
        "that the images are unpacked there, and that the names of files end as in the table."
    )


def _split_table(manifest: dict[str, Any]) -> list[str]:
    lines = [f"{'split':<10}{'images':>10}{'studies':>10}{'subjects':>10}{'shards':>8}{'size':>10}"]
    for split, counts in manifest["splits"].items():
        numbers = "".join(f"{counts[key]:>10,}" for key in ("images", "studies", "subjects"))
        lines.append(f"{split:<10}{numbers}{counts['shards']:>8,}{_size(counts['bytes']):>10}")
    return lines


def _label_table(manifest: dict[str, Any]) -> list[str]:
    """Images by label over all splits."""
    names = manifest["info"]["label_names"]
    width = max(len(name) for name in names) + 2
    keys = ("present", "absent", "uncertain", "not_mentioned")
    lines = [f"{'label':<{width}}" + "".join(f"{key.replace('_', ' '):>15}" for key in keys)]
    for name in names:
        totals = [sum(manifest["labels"][split]["names"][name][key] for split in SPLITS) for key in keys]
        lines.append(f"{name:<{width}}" + "".join(f"{total:>15,}" for total in totals))
    unlabelled = sum(manifest["labels"][split]["unlabelled_images"] for split in SPLITS)
    return lines + ([f"Images without labels: {unlabelled:,}"] if unlabelled else [])


def _reports(manifest: dict[str, Any]) -> list[str]:
    totals: dict[str, int] = {}
    for counts in manifest["reports"].values():
        for outcome, count in counts.items():
            totals[outcome] = totals.get(outcome, 0) + count
    return ["Report text of the images, from:"] + [f"  {count:>10,}  {outcome}" for outcome, count in totals.items()]


def _left_out(manifest: dict[str, Any]) -> list[str]:
    lines = [
        f"  {n:>10,}  {stage}: {reason}"
        for stage, counts in manifest["left_out"].items()
        for reason, n in counts.items()
    ]
    lines = ["Excluded (listed in quarantine.parquet):", *lines] if lines else ["Excluded: none"]
    for title, counts in (
        ("Kept, but listed there too:", manifest["kept_with_remark"]),
        ("Not selected:", manifest["not_selected"]),
        ("Also noticed:", manifest["remarks"]),
    ):
        if counts:
            lines += [title, *(f"  {count:>10,}  {what}" for what, count in counts.items())]
    return [*lines, *_unmapped(manifest["unmapped_labels"])]


def _unmapped(counts: Mapping[str, int]) -> list[str]:
    most = ", ".join(list(counts)[:_NAMED_LABELS])
    line = f"Unmapped labels: {len(counts):,}, most often {most} (counts in manifest.json)"
    return [line] if counts else []


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1000:.1f} kB"
