"""`emixer generate`: a trained run -> a paired dataset on disk. Composes model, label plan, Ray Data and the files."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from emixer import files
from emixer.config import Config
from emixer.config.generation import GenerateConfig
from emixer.errors import ConfigError, RunFolderError
from emixer.generation.card import dataset_card, told_of, write_card
from emixer.generation.contact_sheet import CaptionedImage, contact_sheet
from emixer.generation.dataset import DatasetPlan, Device, choose_samplers, missing_files, write_dataset
from emixer.generation.dataset_files import (
    DATA_FOLDER,
    Layout,
    RowFormat,
    check_layout,
    estimated_row_bytes,
    strangers,
)
from emixer.generation.manifest import begin_manifest, finish_manifest, read_manifest, require_same
from emixer.generation.plan import make_plan
from emixer.generation.plan_kinds import LabelPlan
from emixer.generation.screening import Screening
from emixer.generation.trained_model import read_trained_model
from emixer.progress import Progress
from emixer.ray_session import address_of, capacity, connect
from emixer.stages.generate.screen import ScreenPlan, check_screen, describe_screen, make_screen, read_withheld
from emixer.stages.result import StageResult

_DEFAULT_ROWS = 1000
_SHEET_IMAGES = 12
_COUNT_ROWS = 2**20


@dataclass(frozen=True)
class GenerateResult(StageResult):
    """A finished dataset."""

    folder: Path
    rows: int
    new_rows: int
    num_files: int
    num_bytes: int
    elapsed_s: float
    label_counts: dict[str, int]
    condition_counts: dict[str, dict[str, int]]
    audit: dict[str, Any] | None
    """As in manifest.json; None: no pair was judged."""

    @property
    def nothing_to_do(self) -> bool:
        return not self.new_rows

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"dataset": self.folder, "contact_sheet": self.folder / "contact_sheet.png"}

    @property
    def figures(self) -> Mapping[str, Any]:
        return {
            "pairs": self.rows,
            "new_pairs": self.new_rows,
            "files": self.num_files,
            "bytes": self.num_bytes,
            "labels": self.label_counts,
            "conditions": self.condition_counts,
            "audit": self.audit,
        }

    def __str__(self) -> str:
        kept = self.rows - self.new_rows
        lines = [
            f"{self.rows:,} pairs in {self.num_files:,} file(s), {self.num_bytes / 1e6:,.1f} MB: {self.folder}",
            f"  {self.new_rows:,} made in {self.elapsed_s:,.0f} s" + (f", {kept:,} kept from before" if kept else ""),
            *(
                []
                if self.audit is None
                else [f"  {told_of(self.audit)}", *map("  Remark: {}".format, self.audit["remarks"])]
            ),
            *(f"  {name:<28} {count:>9,}  {count / self.rows:>6.1%}" for name, count in self._counted()),
            f"Look at {self.folder / 'contact_sheet.png'}, or open it in Python:",
            "  from datasets import load_dataset",
            f'  pairs = load_dataset("parquet", data_files="{self.folder / DATA_FOLDER}/*.parquet", split="train")',
        ]
        return "\n".join(lines)

    def _counted(self) -> Iterator[tuple[str, int]]:
        yield from self.label_counts.items()
        for name, counts in self.condition_counts.items():
            yield from ((f"{name} {value}", count) for value, count in counts.items())


def run(config: Config) -> GenerateResult:
    """Writes the dataset at `generate.out`, or finishes it.

    Raises ConfigError, RunFolderError or CheckpointError before anything is drawn; StorageError when the disk is full.
    """
    folder = _out(config.generate)
    plan, screen_plan = _plan(config)  # what can be wrong is wrong before Ray starts
    with files.alone_in(folder, "generate"):
        return _generate(config, plan, screen_plan, folder)


def _generate(config: Config, plan: DatasetPlan, screen_plan: ScreenPlan | None, folder: Path) -> GenerateResult:
    start = time.monotonic()
    existing = read_manifest(folder)
    if existing is not None:
        plan = replace(plan, device=_device(config.generate, existing, has_gpu=False))
        require_same(existing, plan.settings, folder)
        _refuse_strangers(folder, plan.layout)
    missing = sum(rows.num for _, rows in missing_files(plan.layout, folder, plan.settings))
    about_audit = existing.get("audit") if existing is not None else None
    if missing or (screen_plan is not None and about_audit is None):
        with connect(config.ray):
            has_gpu = bool(capacity().get("GPU"))
            plan = replace(plan, device=_device(config.generate, existing, has_gpu))
            begin_manifest(folder, plan.settings)
            if screen_plan is not None:
                screen, remarks = make_screen(config, screen_plan)
                plan = plan.screened_by(screen)
                about_audit = describe_screen(screen, screen_plan, remarks)
            if missing:
                _write(config, plan, folder, missing)
    counts, beside = _counts(plan)
    about: dict[str, Any] = {"label_counts": counts}
    if beside:
        about |= {"conditions": asdict(plan.row_format.conditions), "condition_counts": beside}
    if about_audit is not None:
        about |= {"audit": about_audit | read_withheld(folder, plan.layout)}
    manifest = finish_manifest(folder, plan.settings, plan.layout, about)
    _describe_dataset(folder, plan, manifest)
    return GenerateResult(
        folder=folder,
        rows=plan.layout.num_rows,
        new_rows=missing,
        num_files=len(manifest["files"]),
        num_bytes=manifest["bytes"],
        elapsed_s=time.monotonic() - start,
        label_counts=counts,
        condition_counts=beside,
        audit=manifest.get("audit"),
    )


def describe(config: Config) -> str:
    """What `run` would do."""
    settings = config.generate
    folder = _out(settings)
    existing = read_manifest(folder)
    # Ray, which knows of GPUs on other nodes, is not started for a look
    plan, screen_plan = _plan(config)
    plan = replace(plan, device=_device(settings, existing, torch.cuda.is_available()))
    if existing is not None:
        require_same(existing, plan.settings, folder)
        _refuse_strangers(folder, plan.layout)
    layout, model = plan.layout, plan.trained.config
    missing = missing_files(layout, folder, plan.settings)
    num_bytes = layout.num_rows * estimated_row_bytes(model.side_px, settings.image_format)
    cpus = settings.cpus_per_sampler
    one = "GPU" if plan.device == "cuda" else "CPU" if cpus == 1 else f"{cpus} CPUs"
    samplers = f"{settings.num_samplers}, each on" if settings.num_samplers else "one for every"
    return "\n".join([
        f"Would write {layout.num_rows:,} pairs of {model.side_px} px to {folder}:",
        f"  model      {model.kind} after {plan.trained.images:,} images, {plan.trained.path}",
        f"  labels     {plan.labels.description}",
        f"  seed       {settings.seed}, word temperature {settings.temperature:g}, blocks of {settings.batch_size}",
        f"  files      {len(layout.files):,} of up to {layout.rows_per_file:,} rows, {len(missing):,} still to make; "
        f"about {num_bytes / 1e6:,.1f} MB of {settings.image_format.upper()} in Parquet",
        f"  samplers   {samplers} {one}",
        *([] if screen_plan is None else [f"  withheld   {_judged(config, screen_plan)}"]),
    ])  # fmt: skip


def _write(config: Config, plan: DatasetPlan, folder: Path, missing_rows: int) -> None:
    settings = config.generate
    growing = address_of(config.ray) is not None
    num_samplers = choose_samplers(settings.num_samplers, settings.cpus_per_sampler, plan.device, growing)
    kept = plan.layout.num_rows - missing_rows
    with Progress("generate", plan.layout.num_rows, "pairs", done=kept) as progress:
        progress.update(kept, samplers=str(num_samplers))
        write_dataset(plan, folder, num_samplers, progress.advance)


def _out(settings: GenerateConfig) -> Path:
    if settings.out is None:
        raise ConfigError("generate.out is not set. Give --out FOLDER, where the dataset is written.")
    return settings.out.resolve()


def _judged(config: Config, plan: ScreenPlan) -> str:
    return (
        f"what {config.audit.false_alarm:.2%} of {plan.num_held_out:,} held-out images and reports would be flagged by "
        f"as well, beside {plan.num_train:,} training images; up to {config.generate.redraws} redraws of a row"
    )


def _plan(config: Config) -> tuple[DatasetPlan, ScreenPlan | None]:
    settings = config.generate
    if settings.run is None:
        raise ConfigError("generate.run is not set. Give --run FOLDER, a run folder written by `emixer train`.")
    trained = read_trained_model(settings.run.resolve(), settings.checkpoint)
    labels = make_plan(
        settings.plan, settings.labels, trained.spec, settings.seed, _conditions(settings), settings.balance_by
    )
    layout = Layout(_num_rows(settings, labels), settings.rows_per_file, settings.rows_per_group)
    check_layout(layout, settings.batch_size, trained.config.side_px)
    screen_plan = check_screen(config, trained)
    plan = DatasetPlan(
        trained=trained,
        labels=labels,
        layout=layout,
        row_format=RowFormat(
            trained.spec.label_names,
            settings.seed,
            settings.image_format,
            trained.spec.conditions,
            is_screened=screen_plan is not None,
        ),
        batch_size=settings.batch_size,
        temperature=settings.temperature,
        device="cpu",
        cpus_per_sampler=settings.cpus_per_sampler,
        screening=None if screen_plan is None else Screening(screen_plan.settings(config), settings.redraws),
    )
    return plan, screen_plan


def _conditions(settings: GenerateConfig) -> dict[str, str | int]:
    given: dict[str, str | int | None] = {"sex": settings.sex, "age": settings.age, "view": settings.view}
    return {name: value for name, value in given.items() if value is not None}


def _num_rows(settings: GenerateConfig, labels: LabelPlan) -> int:
    return settings.num or labels.num_rows or _DEFAULT_ROWS


def _device(settings: GenerateConfig, existing: dict[str, Any] | None, has_gpu: bool) -> Device:
    """As set; else as the dataset in the folder was begun; else a GPU where there is one."""
    if settings.use_gpu is not None:
        return "cuda" if settings.use_gpu else "cpu"
    if existing is not None:
        begun: Device = existing["settings"]["device"]
        return begun
    return "cuda" if has_gpu else "cpu"


def _refuse_strangers(folder: Path, layout: Layout) -> None:
    found = strangers(folder, layout)
    if found:
        raise RunFolderError(
            f"{folder / DATA_FOLDER} holds {len(found)} Parquet file(s) that are not of this dataset, e.g. {found[0]}; "
            "whoever opens the folder would read them along. Choose a new folder, or move them away."
        )


def _counts(plan: DatasetPlan) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Rows with each label, and with each value of each condition."""
    rows = plan.layout.num_rows
    totals: Any = sum(
        plan.labels.labels(first, min(_COUNT_ROWS, rows - first)).sum(axis=0, dtype=np.int64)
        for first in range(0, rows, _COUNT_ROWS)
    )
    spec = plan.trained.spec
    of_labels, of_conditions = np.split(totals, [spec.num_labels])
    spans, values = spec.conditions.spans, spec.conditions.values
    beside = {
        name: dict(zip(named, of_conditions[span].tolist(), strict=True))
        for (name, span), named in zip(spans.items(), values, strict=True)
    }
    return dict(zip(spec.label_names, of_labels.tolist(), strict=True)), beside


def _describe_dataset(folder: Path, plan: DatasetPlan, manifest: Mapping[str, Any]) -> None:
    """The dataset card and the contact sheet."""
    write_card(folder, dataset_card(plan, manifest))
    name, _ = plan.layout.files[0]
    group = pq.ParquetFile(folder / DATA_FOLDER / name).read_row_group(0).slice(0, _SHEET_IMAGES)
    images = [
        CaptionedImage(row["image"]["bytes"], _caption(row, plan.row_format), row["report"])
        for row in group.to_pylist()
    ]
    title = f"Synthetic, not for diagnosis: the first {len(images)} of {plan.layout.num_rows:,} pairs"
    files.write_bytes(folder / "contact_sheet.png", contact_sheet(images, title))


def _caption(row: dict[str, Any], row_format: RowFormat) -> list[str]:
    known = [row[name] for name in row_format.conditions.names if row[name]]
    return [*(name for name in row_format.label_names if row[name]), *known]
