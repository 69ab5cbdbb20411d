"""`emixer gallery`: a run or a dataset -> one HTML page. Combines sampler, real pairs, metrics and page."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from emixer import files
from emixer.checkpoint import find_checkpoint
from emixer.config import Config
from emixer.data.labels import LabelPolicy
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import read_written
from emixer.errors import ConfigError
from emixer.evaluation.report_mentions import READABLE_LABELS, Mention, mentions
from emixer.gallery.charts import charts_of_run
from emixer.gallery.label_swap import swap_labels, swap_strip, swap_vectors
from emixer.gallery.page import AuditLink, Comparison, Gallery, Pair, SwapStrip, label_rows_of, render
from emixer.gallery.real_examples import RealExamples, read_real_examples
from emixer.gallery.run_page import (
    facts_of_dataset,
    facts_of_run,
    facts_of_shards,
    highlights_of_run,
    last_validation,
    read_grids,
)
from emixer.generation.manifest import AUDIT_FOLDER, read_audit, read_finished_manifest
from emixer.generation.pairs import Pairs
from emixer.generation.sampler import Sampler
from emixer.generation.stored_pairs import read_stored_pairs
from emixer.generation.trained_model import TrainedModel, read_trained_model
from emixer.run_folder import RunFolder
from emixer.stages.real_measurements import given_away_with
from emixer.stages.result import StageResult

_NAME = "gallery.html"
_WITHOUT_REAL = "Give --real false for a page without real images."
_SYNTHETIC = "Synthetic chest images with the reports generated with them."


@dataclass(frozen=True)
class GalleryResult(StageResult):
    """A written page."""

    page: Path
    pairs: int
    real: bool
    num_bytes: int

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"page": self.page}

    @property
    def figures(self) -> Mapping[str, Any]:
        return {"pairs": self.pairs, "shows_real_pairs": self.real, "bytes": self.num_bytes}

    def __str__(self) -> str:
        kind = "generated and real pairs side by side" if self.real else "generated pairs"
        lines = [f"{self.pairs} {kind}, {self.num_bytes / 1e6:.1f} MB in one file. Open in a browser:"]
        lines.append(f"  {self.page}")
        if self.real:
            lines.append("It contains real images and reports: share it only as the terms of their collection allow.")
            lines.append("For a page without them: --real false")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Run:
    """A run, opened and checked. shards: None for a page without real images."""

    folder: RunFolder
    config: Config
    trained: TrainedModel
    shards: ShardSet | None


@dataclass(frozen=True)
class _Dataset:
    """A finished dataset, opened and checked."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def num_rows(self) -> int:
        return int(self.manifest["rows"])

    @property
    def label_counts(self) -> tuple[tuple[str, int], ...]:
        counts: dict[str, int] = self.manifest["label_counts"]
        return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def run(config: Config) -> GalleryResult:
    """Write the page.

    Raises ConfigError, RunFolderError, CheckpointError or ShardError when an input is missing.
    """
    page, trained_run, dataset = _open(config)
    with files.alone_at(page, "gallery"):
        if trained_run is not None:
            gallery = _of_run(config, trained_run, dataset)
        else:
            assert dataset is not None, "a run or a dataset was opened"
            gallery = _of_dataset(config, dataset)
        gallery = replace(gallery, audit=_audit_of(dataset, page))
        html = render(gallery)
        files.write_text(page, html)
    return GalleryResult(page, len(gallery.comparisons), gallery.shows_real, len(html.encode()))


def describe(config: Config) -> str:
    """Describe what `run` would do."""
    page, trained_run, dataset = _open(config)
    settings = config.gallery
    lines = [f"Would write {page}:"]
    if trained_run is not None:
        beside = ", next to real held-out pairs with the same labels" if trained_run.shards else ""
        checkpoint = trained_run.trained.path.name
        lines.append(f"  up to {settings.pairs} pairs generated from {checkpoint} with seed {settings.seed}{beside}")
        lines.append(f"  curves and up to {settings.grids} sample grids of {settings.run}")
    if dataset is not None:
        what = "label counts" if trained_run else f"the first {settings.pairs} pairs and label counts"
        lines.append(f"  {what} of the {dataset.num_rows:,} pairs in {dataset.folder}")
    return "\n".join(lines)


def _open(config: Config) -> tuple[Path, _Run | None, _Dataset | None]:
    settings = config.gallery
    folder = settings.run or settings.dataset
    if folder is None:
        raise ConfigError(
            "Neither gallery.run nor gallery.dataset is set. Give --run FOLDER, --dataset FOLDER, or both."
        )
    page = (settings.out or folder / _NAME).resolve()
    if page.is_dir():
        raise ConfigError(f"gallery.out={page} is a folder. Give the name of the HTML file, e.g. {page / _NAME}.")
    files.require_writable(page.parent)
    trained_run = _open_run(config, settings.run) if settings.run else None
    if trained_run is not None and trained_run.shards is not None:
        shared = given_away_with(page.parent, settings.dataset)
        if shared is not None:
            raise ConfigError(
                f"The page would show real images and reports in {shared}, which is made to be given away. Give --out "
                "FILE (gallery.out) outside datasets and published models, or set gallery.real=false."
            )
    return (
        page,
        trained_run,
        _Dataset(settings.dataset, read_finished_manifest(settings.dataset)) if settings.dataset else None,
    )


def _open_run(config: Config, path: Path) -> _Run:
    folder = RunFolder.open(path, "train")
    trained = read_trained_model(path, config.gallery.checkpoint)
    run_config = folder.config
    shards = _open_shards(config, run_config, trained) if config.gallery.real else None
    return _Run(folder, run_config, trained, shards)


def _open_shards(config: Config, run_config: Config, trained: TrainedModel) -> ShardSet:
    folder = config.data.shards or run_config.data.shards
    if folder is None or not folder.exists():
        raise ConfigError(
            f"The run's training shards are not at {folder}. Give --shards FOLDER if they were moved, or --real false "
            "for a page without real images."
        )
    shards = ShardSet.open(folder)
    if shards.info.label_names != trained.spec.label_names:
        raise ConfigError(
            f"The shards in {folder} have other labels than the run. Give --shards FOLDER that it was trained on."
        )
    if _held_out(shards) is None:
        raise ConfigError(
            f"The shards in {folder} hold training images only, and those beside generated ones would show what the "
            f"model has seen. {_WITHOUT_REAL}"
        )
    return shards


def _held_out(shards: ShardSet) -> str | None:
    """The split that real pairs are from."""
    return next((split for split in ("validate", "test") if split in shards.splits), None)


def _audit_of(dataset: _Dataset | None, page: Path) -> AuditLink | None:
    """Audit of exactly these rows: one of the folder's earlier content would not apply to them."""
    found = None if dataset is None else read_audit(dataset.folder)
    if dataset is None or found is None or found["dataset"]["fingerprint"] != dataset.manifest["fingerprint"]:
        return None
    shown = (dataset.folder / AUDIT_FOLDER / "audit.html").resolve()
    href = Path(os.path.relpath(shown, page.parent)).as_posix()
    return AuditLink(found["verdict"], found["summary"], quote(href))


def _of_run(config: Config, run: _Run, dataset: _Dataset | None) -> Gallery:
    trained, model = run.trained, run.config.model
    metrics = run.folder.metrics()
    measured = last_validation(metrics, trained.images)
    best = find_checkpoint(run.folder.checkpoints, "best")
    which = "best" if best is not None and best.path.resolve() == trained.path.resolve() else "last"
    checkpoint = f"after {trained.images:,} images ({which})"
    facts = list(facts_of_run(run.config, run.folder.path.resolve().name, checkpoint, len(trained.spec.tokens)))
    if run.shards is not None:
        facts.append(facts_of_shards(run.shards))
    if dataset is not None:
        facts.append(facts_of_dataset(dataset.manifest))
    beside = ", next to real held-out pairs with the same labels" if run.shards else ""
    return Gallery(
        title=f"{model.kind.upper()} at {model.side_px} px",
        lead=f"{_SYNTHETIC} Generated from the checkpoint {checkpoint}{beside}.",
        highlights=highlights_of_run(trained.images, measured),
        comparisons=_sampled(config, run),
        swaps=tuple(_swapped(config, run)),
        charts=tuple(charts_of_run(metrics)),
        grids=read_grids(run.folder.samples, config.gallery.grids),
        label_rows=label_rows_of(measured, trained.spec.label_names),
        measured_at=int(measured["images"]) if measured else None,
        label_counts=dataset.label_counts if dataset else (),
        facts=tuple(facts),
    )


def _sampled(config: Config, run: _Run) -> tuple[Comparison, ...]:
    settings, sampler = config.gallery, Sampler(run.trained)
    if run.shards is None:
        return _comparisons(sampler.sample(num=settings.pairs, seed=settings.seed), None)
    split = _held_out(run.shards)
    assert split is not None, "checked"
    policy = LabelPolicy(run.config.data.uncertain, "zeros")
    real = read_real_examples(run.shards, split, settings.pairs, policy, _WITHOUT_REAL)
    return _comparisons(sampler.sample(labels=real.labels_NY, seed=settings.seed), real)


def _swapped(config: Config, run: _Run) -> Iterator[SwapStrip]:
    """Strips of pairs that share one noise and differ only in a label."""
    spec, settings = run.trained.spec, config.gallery
    names = spec.label_names
    counts = np.asarray(spec.label_counts) @ np.asarray(spec.label_vectors)[:, : spec.num_labels]
    labels = swap_labels(names, counts, settings.swapped_labels)
    if not labels:
        return
    sampler = Sampler(run.trained, batch_size=1)  # each vector, sampled alone, is row 0 of the seed: same noise
    typical = spec.most_frequent_conditions()  # the same for all, so that only labels differ
    for seed in range(settings.seed, settings.seed + settings.swap_strips):
        drawn = [
            sampler.sample(
                vector[None], seed=seed, sex=typical.get("sex"), age=typical.get("age"), view=typical.get("view")
            )
            for vector in swap_vectors(names, labels)
        ]
        pairs = [Pair(one.images[0], one.reports[0]) for one in drawn]
        found_KY = mentions([read_written(pair.report) for pair in pairs[1:]], names)
        named = [
            bool(found_KY[k, y] == Mention.PRESENT) if names[y] in READABLE_LABELS else None
            for k, y in enumerate(labels)
        ]
        yield swap_strip(pairs, [names[y] for y in labels], named)


def _comparisons(generated: Pairs, real: RealExamples | None) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(
            labels=tuple(generated.labels_of(i)),
            real=Pair(real.images_NHW[i], real.reports[i]) if real else None,
            generated=Pair(generated.images[i], generated.reports[i]),
        )
        for i in range(len(generated))
    )


def _of_dataset(config: Config, dataset: _Dataset) -> Gallery:
    names = [name for name, _ in dataset.label_counts]
    file_names = [listed["name"] for listed in dataset.manifest["files"]]
    stored = read_stored_pairs(dataset.folder, file_names, names, range(config.gallery.pairs))
    return Gallery(
        title=f"{dataset.folder.resolve().name}: {dataset.num_rows:,} synthetic pairs",
        lead=f"{_SYNTHETIC} The first {len(stored):,} of {dataset.num_rows:,} pairs.",
        highlights=((f"{dataset.num_rows:,}", "pairs"), (f"{dataset.manifest['bytes'] / 1e6:,.1f} MB", "of Parquet")),
        comparisons=tuple(
            Comparison(tuple(compress(names, labels_Y)), generated=Pair(image_HW, report))
            for image_HW, report, labels_Y in zip(stored.images_NHW, stored.reports, stored.labels_NY, strict=True)
        ),
        label_counts=dataset.label_counts,
        facts=(facts_of_dataset(dataset.manifest),),
    )
