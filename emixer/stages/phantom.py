"""The phantom stage: a procedural collection in the layout of a published one, written in parallel on Ray."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from emixer import files
from emixer.config import Config
from emixer.data.dicom import require_dicom
from emixer.data.labels import CHEXPERT
from emixer.data.phantom.collection import FACTORS, PhantomCollection, finish, write_block
from emixer.data.phantom.factors import column_name
from emixer.data.phantom.layouts import LAYOUTS
from emixer.data.phantom.study import Settings
from emixer.data.schema import SPLITS
from emixer.errors import ConfigError
from emixer.stages.result import StageResult

_IMAGES_PER_STUDY = 1.56
_BYTES_PER_PIXEL = 0.17
_SECONDS_PER_MEGAPIXEL = 0.30


@dataclass(frozen=True)
class PhantomResult(StageResult):
    """Contents of a phantom collection."""

    out: Path
    already_there: bool
    splits: dict[str, tuple[int, int, int]]
    """Patients, studies and images of each split."""
    labels: dict[str, dict[int | None, int]]
    """Studies with each value (1, 0, -1, None) of each label."""
    layout: str

    @property
    def nothing_to_do(self) -> bool:
        return self.already_there

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"collection": self.out}

    @property
    def figures(self) -> Mapping[str, Any]:
        names = {1: "present", 0: "absent", -1: "uncertain", None: "blank"}
        return {
            "splits": {
                name: dict(zip(("patients", "studies", "images"), counts, strict=True))
                for name, counts in self.splits.items()
            },
            "labels": {
                label: {name: counts.get(value, 0) for value, name in names.items()}
                for label, counts in self.labels.items()
            },
        }

    def __str__(self) -> str:
        state = "already complete, nothing was written" if self.already_there else "written"
        lines = [f"Phantom {state}: {self.out}", "", f"  {'split':<10}{'patients':>10}{'studies':>10}{'images':>10}"]
        lines += [f"  {name:<10}{p:>10,}{s:>10,}{f:>10,}" for name, (p, s, f) in self.splits.items()]
        lines += ["", f"  {'label':<28}{'present':>9}{'absent':>9}{'uncertain':>11}{'blank':>9}"]
        for name, counts in self.labels.items():
            present, absent, unsure, blank = (counts.get(v, 0) for v in (1, 0, -1, None))
            lines.append(f"  {name:<28}{present:>9,}{absent:>9,}{unsure:>11,}{blank:>9,}")
        layout = LAYOUTS[self.layout]
        reports = f" --reports {self.out / layout.report_table}" if layout.report_table else ""
        shards = self.out.with_name("shards")
        lines += ["", f"Next: emixer ingest {layout.ingest} --config demo --root {self.out}{reports} --out {shards}"]
        return "\n".join(lines)


def describe(config: Config) -> str:
    """Describe what `run` would do: studies, images, bytes and time. Writes nothing."""
    collection = _collection(config)
    phantom = config.phantom
    if collection.is_complete():
        return f"{collection.out} already has this phantom of {phantom.studies:,} studies. Nothing would be written."
    waiting = sum(stop - start for start, stop in collection.unfinished(phantom.studies_per_task))
    images = round(waiting * _IMAGES_PER_STUDY)
    megapixels = phantom.height_px**2 * 0.82 / 1e6
    size_gb = images * megapixels * _BYTES_PER_PIXEL / 1e3
    minutes = images * megapixels * _SECONDS_PER_MEGAPIXEL / 60
    return (
        f"Would write {waiting:,} of {phantom.studies:,} studies (about {images:,} images of {phantom.height_px} px) "
        f"to {collection.out}:\nabout {size_gb:.2f} GB, about {minutes:.1f} CPU minutes, in Ray tasks of "
        f"{phantom.studies_per_task} studies. Seed {config.seed}."
    )


def run(config: Config) -> PhantomResult:
    """Write the collection, or the part of it that is missing."""
    collection = _collection(config)
    with files.alone_in(collection.out, "phantom"):
        already_there = collection.is_complete()
        if not already_there:
            collection.begin()
            _write_blocks(config, collection)
            finish(collection)
    return _summarize(collection, already_there)


def _collection(config: Config) -> PhantomCollection:
    phantom = config.phantom
    if phantom.out is None:
        raise ConfigError("phantom.out is not set. Give --out DIR for the collection.")
    if phantom.broken_files > phantom.studies:
        raise ConfigError(
            f"phantom.broken_files={phantom.broken_files} is more than phantom.studies={phantom.studies}. "
            "At most one file per study is corrupted; lower the one or raise the other."
        )
    layout = LAYOUTS[phantom.layout]
    if phantom.broken_files and not layout.has_report_files:
        raise ConfigError(
            f"phantom.broken_files={phantom.broken_files} only works with MIMIC-CXR layouts, not with "
            f"{phantom.layout}. Set it to 0, or choose mimic-cxr-jpg or mimic-cxr."
        )
    if layout.dicom:
        require_dicom(f"A phantom in the layout {phantom.layout}")
    settings = Settings(
        seed=config.seed,
        height_px=phantom.height_px,
        duplicate_fraction=phantom.duplicate_fraction,
        validate_fraction=phantom.validate_fraction,
        test_fraction=phantom.test_fraction,
    )
    return PhantomCollection(phantom.out, phantom.studies, settings, phantom.broken_files, phantom.layout)


def _write_blocks(config: Config, collection: PhantomCollection) -> None:
    """Write all unfinished blocks as Ray tasks, two in flight per CPU: none is idle, and no backlog builds up."""
    import ray  # here, so that --dry-run and the pure functions do not need it

    from emixer.progress import Progress
    from emixer.ray_session import capacity, connect

    ranges = collection.unfinished(config.phantom.studies_per_task)
    done = collection.studies - sum(stop - start for start, stop in ranges)
    with connect(config.ray), Progress("phantom", collection.studies, "studies", done=done) as progress:
        task = ray.remote(num_cpus=1, max_retries=3)(write_block)
        at_once = 2 * max(1, int(capacity().get("CPU", 1)))
        running: dict[Any, int] = {}
        for start, stop in ranges:
            if len(running) >= at_once:
                _collect(ray, running, progress)
            running[task.remote(collection, start, stop)] = stop - start
        while running:
            _collect(ray, running, progress)


def _collect(ray: Any, running: dict[Any, int], progress: Any) -> None:
    (ready,), _ = ray.wait(list(running), num_returns=1)
    ray.get(ready)
    progress.advance(running.pop(ready))


def _summarize(collection: PhantomCollection, already_there: bool) -> PhantomResult:
    out = collection.out
    subjects: dict[str, set[str]] = {name: set() for name in SPLITS}
    studies: Counter[str] = Counter()
    images: Counter[str] = Counter()
    labels: dict[str, Counter[int | None]] = {name: Counter() for name in CHEXPERT}
    last = None
    for row in _factor_rows(out):
        images[row["split"]] += 1
        if row["study_id"] == last:
            continue
        last = row["study_id"]
        studies[row["split"]] += 1
        subjects[row["split"]].add(row["subject_id"])
        for name in CHEXPERT:
            labels[name][row[f"stated_{column_name(name)}"]] += 1
    counts = {name: (len(subjects[name]), studies[name], images[name]) for name in SPLITS}
    values = {name: dict(values) for name, values in labels.items()}
    return PhantomResult(out, already_there, counts, values, collection.layout)


def _factor_rows(out: Path) -> Iterator[dict[str, Any]]:
    columns = ["study_id", "subject_id", "split", *(f"stated_{column_name(name)}" for name in CHEXPERT)]
    for batch in pq.ParquetFile(out / FACTORS).iter_batches(columns=columns):
        yield from batch.to_pylist()
