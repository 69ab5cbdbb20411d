"""`emixer generate`: a trained run -> a paired dataset on disk. Composes model, label plan, Ray Data and the files."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emixer import files
from emixer.config import Config
from emixer.config.generation import GenerateConfig
from emixer.errors import ConfigError
from emixer.generation.card import screening_in_words
from emixer.generation.dataset import choose_samplers, write_dataset
from emixer.generation.dataset_files import DATA_FOLDER
from emixer.generation.dataset_folder import DatasetFolder
from emixer.generation.generation_plan import GenerationPlan, Screening, plan_generation
from emixer.generation.manifest import read_manifest
from emixer.generation.screening import Screen
from emixer.generation.trained_model import read_trained_model
from emixer.models.cuda import Device, has_gpu
from emixer.progress import Progress
from emixer.ray_session import capacity, connect, is_one_machine
from emixer.stages.generate.screen import ScreenPlan, check_screen, describe_screen, make_screen
from emixer.stages.result import StageResult

PlanOn = Callable[[Device], GenerationPlan]


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
                else [f"  {screening_in_words(self.audit)}", *map("  Remark: {}".format, self.audit["remarks"])]
            ),
            *(f"  {name:<28} {count:>9,}  {count / self.rows:>6.1%}" for name, count in self._counted()),
            f"Look at {self.folder / 'contact_sheet.png'}, or open it in Python (pip install datasets):",
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
    plan_on, screen_plan = _checked(config)  # what can be wrong is wrong before Ray starts
    with files.alone_in(folder, "generate"):
        return _generate(config, plan_on, screen_plan, folder)


def _generate(config: Config, plan_on: PlanOn, screen_plan: ScreenPlan | None, folder: Path) -> GenerateResult:
    start = time.monotonic()
    existing = read_manifest(folder)
    described = None if existing is None else existing.get("audit")
    with ExitStack() as session:

        def cluster_has_gpu() -> bool:
            session.enter_context(connect(config.ray))
            return bool(capacity().get("GPU"))

        plan = plan_on(_device(config.generate, existing, cluster_has_gpu))
        dataset = DatasetFolder.of(folder, plan)
        dataset.drop_damaged()
        missing = sum(rows.num for _, rows in dataset.missing_files())
        if missing or (screen_plan is not None and described is None):
            session.enter_context(connect(config.ray))
            dataset.begin()  # measuring for the screen takes minutes
            screen = None
            if screen_plan is not None:
                screen = make_screen(config, screen_plan)
                described = describe_screen(screen, screen_plan)
            if missing:
                _write(config, dataset, missing, screen)
    manifest = dataset.finish(described)
    return GenerateResult(
        folder=folder,
        rows=plan.layout.num_rows,
        new_rows=missing,
        num_files=len(manifest["files"]),
        num_bytes=manifest["bytes"],
        elapsed_s=time.monotonic() - start,
        label_counts=manifest["label_counts"],
        condition_counts=manifest.get("condition_counts", {}),
        audit=manifest.get("audit"),
    )


def describe(config: Config) -> str:
    """What `run` would do."""
    settings = config.generate
    folder = _out(settings)
    plan_on, screen_plan = _checked(config)
    # Ray, which knows of GPUs on other nodes, is not started for a look
    plan = plan_on(_device(settings, read_manifest(folder), has_gpu))
    layout, model = plan.layout, plan.trained.config
    missing = DatasetFolder.of(folder, plan).missing_files()
    files.require_writable(folder)
    cpus = settings.cpus_per_sampler
    one = "GPU" if plan.device == "cuda" else "CPU" if cpus == 1 else f"{cpus} CPUs"
    samplers = f"{settings.num_samplers}, each on" if settings.num_samplers else "one for every"
    return "\n".join([
        f"Would write {layout.num_rows:,} pairs of {model.side_px} px to {folder}:",
        f"  model      {model.kind} after {plan.trained.images:,} images, {plan.trained.path}",
        f"  labels     {plan.labels.description}",
        f"  seed       {settings.seed}, word temperature {settings.temperature:g}, blocks of {settings.batch_size}",
        f"  files      {len(layout.files):,} of up to {layout.rows_per_file:,} rows, {len(missing):,} still to make; "
        f"about {plan.estimated_bytes / 1e6:,.1f} MB of {settings.image_format.upper()} in Parquet",
        f"  samplers   {samplers} {one}",
        *([] if screen_plan is None else [f"  withheld   {_judged(config, screen_plan)}"]),
    ])  # fmt: skip


def _checked(config: Config) -> tuple[PlanOn, ScreenPlan | None]:
    settings = config.generate
    if settings.run is None:
        raise ConfigError("generate.run is not set. Give --run FOLDER, a run folder written by `emixer train`.")
    trained = read_trained_model(settings.run.resolve(), settings.checkpoint)
    screen_plan = check_screen(config, trained)
    screening = None if screen_plan is None else Screening(screen_plan.settings(config), settings.redraws)
    return plan_generation(settings, trained, screening), screen_plan


def _device(settings: GenerateConfig, existing: dict[str, Any] | None, has_gpu: Callable[[], bool]) -> Device:
    """As set; else as the dataset in the folder was begun; else a GPU where there is one."""
    if settings.use_gpu is not None:
        return "cuda" if settings.use_gpu else "cpu"
    if existing is not None:
        begun: Device = existing["settings"]["device"]
        return begun
    return "cuda" if has_gpu() else "cpu"


def _write(config: Config, dataset: DatasetFolder, missing_rows: int, screen: Screen | None) -> None:
    settings, num_rows = config.generate, dataset.plan.layout.num_rows
    growing = not is_one_machine()
    num_samplers = choose_samplers(settings.num_samplers, settings.cpus_per_sampler, dataset.plan.device, growing)
    kept = num_rows - missing_rows
    with Progress("generate", num_rows, "pairs", done=kept) as progress:
        progress.update(kept, samplers=str(num_samplers))
        write_dataset(dataset, num_samplers, progress.advance, screen)


def _out(settings: GenerateConfig) -> Path:
    if settings.out is None:
        raise ConfigError("generate.out is not set. Give --out FOLDER, where the dataset is written.")
    return settings.out.resolve()


def _judged(config: Config, plan: ScreenPlan) -> str:
    return (
        f"what {config.audit.false_alarm:.2%} of {plan.num_held_out:,} held-out images and reports would be flagged by "
        f"as well, beside {plan.num_train:,} training images; up to {config.generate.redraws} redraws of a row"
    )
