"""`emixer train`: shards -> run folder. Combines the loop with metrics and sample grids."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emixer.checkpoint import MAX_KEPT, Checkpoint, find_checkpoint
from emixer.config import Config
from emixer.config.training import check_batch_size
from emixer.data.collection import identify
from emixer.data.conditions import Conditions
from emixer.data.known_of_images import find_conditions
from emixer.data.loader import WindowReader, open_windows
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError
from emixer.evaluation.report_mentions import reads_language
from emixer.evaluation.validation_table import validation_table
from emixer.model_kinds import build_phases
from emixer.models.encoder_facts import checked_facts, require_judge
from emixer.models.paired_model import PairedModel
from emixer.run_folder import RunFolder
from emixer.stages.model_spec import model_spec
from emixer.stages.result import StageResult
from emixer.stages.training_run import check_trackers, start_in_words, trained_checkpoint, training_session

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult(StageResult):
    """Result of a finished run."""

    run: Path
    images: int
    best: float | None
    metric: str
    last: dict[str, float]
    was_done: bool = False
    """Whether nothing was left to train."""

    @property
    def nothing_to_do(self) -> bool:
        return self.was_done

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"run": self.run}

    @property
    def figures(self) -> Mapping[str, Any]:
        best = {"metric": self.metric, "value": self.best}
        return {"images": self.images, "validation": self._measured(), "best": best}

    def _measured(self) -> dict[str, float]:
        names = [k for k in self.last if k.startswith("validation/") and k.count("/") == 1]  # not the per-label ones
        return {name.removeprefix("validation/"): self.last[name] for name in names}

    def __str__(self) -> str:
        was = "Already trained" if self.was_done else "Trained"
        lines = [f"{was} on {self.images:,} images: {self.run}"]
        lines += validation_table(self.last)
        if self.best is not None:
            lines.append(f"  best {self.metric:<33}{self.best:>11.3g}  (checkpoints/best.json)")
        lines += [
            "Next:",
            f"  emixer generate --run {self.run} --num 1000 --out ...",
            f"  emixer gallery --run {self.run}",
        ]
        return "\n".join(lines)


def run(config: Config) -> TrainResult:
    """Start or resume the run at `train.run`.

    Raises ConfigError, ShardError or RunFolderError before anything starts; DivergenceError when losses are not finite;
    StoppedError when it was stopped by SIGTERM, KeyboardInterrupt by Ctrl-C.
    """
    from emixer.stages.train.plan import make_plan
    from emixer.training.workers import run_workers

    shards, reader = checked(config)
    for line in _unread(shards):
        logger.warning("%s", " ".join(line.split()))
    path = _run_path(config)
    with RunFolder(path).alone("train"):
        folder = RunFolder.create_or_resume(path, "train", config, _digest(shards))
        was_done = _is_done(find_checkpoint(folder.checkpoints, "last"), config)
        if not was_done:
            with training_session(folder, "train", config.train.images, config.ray):
                run_workers(make_plan(config, shards, reader, path))
    last = trained_checkpoint(folder)
    measured: dict[str, float] = next(
        (line for line in reversed(folder.metrics()) if any("validation/" in k for k in line)), {}
    )
    selects_by = build_phases(config.model, config.loss).selects_by(config.validation.metric)
    metric = last.state.get("best_by", {}).get("metric", selects_by)  # of a finished run: not what is set now
    return TrainResult(path, last.images, last.state["best"], metric, measured, was_done)


def _digest(shards: ShardSet) -> str:
    """Digest of the images that a model is trained and selected on."""
    return shards.digest(("train", "validate"))


def _is_done(last: Checkpoint | None, config: Config) -> bool:
    return last is not None and last.images >= config.train.images


def describe(config: Config) -> str:
    """Describe what `run` would do. Raises what it raises before anything starts."""
    from emixer.model_kinds import build_model

    shards, reader = checked(config)
    train, folder = config.train, RunFolder(_run_path(config))
    folder.check("train", config, _digest(shards))
    last = find_checkpoint(folder.checkpoints, "last")
    spec = model_spec(shards, reader)
    model = build_model(config.model, spec)
    generators, critics = _num_parameters(model)
    rows = shards.num_rows("train")
    return "\n".join([
        f"Would train {config.model.kind} at {config.model.side_px} px in {folder.path} "
        f"({start_in_words(last, _is_done(last, config))}):",
        f"  data        {rows:,} images in train, {shards.num_rows('validate'):,} in validate, {config.data.shards}",
        f"  labels      {len(spec.label_names)} ({len(spec.label_vectors):,} distinct vectors); "
        f"{len(spec.tokens):,} tokens",
        *_unread(shards),
        *([f"  conditions  {_in_words(spec.conditions)}"] if spec.conditions.names else []),
        f"  schedule    {train.images:,} images = {train.images / rows:,.1f} epochs, batch {train.batch_size} over "
        f"{train.workers_in_words} worker(s) x {train.accumulate} micro-batch(es), {train.precision}",
        f"  parameters  {generators:,} in the generators, {critics:,} in the discriminators",
        f"  checkpoint  {_checkpoint_bytes(model) / 1e6:,.0f} MB each, at most {MAX_KEPT} kept",
    ])  # fmt: skip


def _unread(shards: ShardSet) -> list[str]:
    """Return the line about reports that are neither trained on nor read, if any."""
    language = shards.info.report_language
    if reads_language(language):
        return []
    return [f"  reports     in unsupported language {language!r}: training on images only"]


def _in_words(conditions: Conditions) -> str:
    """Format conditions as `sex (F, M), view (AP, PA)`."""
    each = zip(conditions.names, conditions.values, strict=True)
    return ", ".join(f"{name} ({', '.join(values)})" for name, values in each)


def check(config: Config) -> None:
    """Raise what `run` would raise before anything starts, whatever the run folder holds."""
    checked(config)


def checked(config: Config) -> tuple[ShardSet, WindowReader]:
    """Return the checked inputs. Raises ConfigError or ShardError for all that can be wrong before a worker starts."""
    model = config.model
    if config.data.shards is None:
        raise ConfigError("data.shards is not set. Give --shards FOLDER, a folder written by `emixer ingest`.")
    shards = ShardSet.open(config.data.shards)
    if shards.info.side_px != model.side_px:
        raise ConfigError(
            f"model.side_px={model.side_px}, but the images in {config.data.shards} have {shards.info.side_px} px. "
            f"Set model.side_px={shards.info.side_px}, or ingest with side_px={model.side_px}."
        )
    check_batch_size("train", config.train)
    build_phases(model, config.loss)  # refuses losses that leave a player nothing to learn
    _check_weights(config, shards)
    check_trackers("train", config.train)
    for split in ("train", "validate"):
        if not shards.num_rows(split):
            raise ShardError(f"The {split} split of {config.data.shards} is empty. Ingest again with images in it.")
    conditions = find_conditions(shards, model.conditions, model.age_bounds)
    reader = open_windows(
        shards, "train", config.data, config.seed, model.max_sentences, model.max_words, conditions=conditions
    )
    return shards, reader


def _check_weights(config: Config, shards: ShardSet) -> None:
    reader, judge = config.model.chest_encoder, config.validation.encoder
    if judge is not None and judge.weights is None:
        raise ConfigError(
            "validation.encoder is set without validation.encoder.weights. Give a weights file, or omit the section: "
            "then a fixed random DenseNet is used, and noted in the metric's name."
        )
    facts = {
        key: checked_facts(key, encoder)
        for key, encoder in {"model.report_decoder.encoder": reader, "validation.encoder": judge}.items()
        if encoder is not None and encoder.weights is not None
    }
    of_reader = facts.get("model.report_decoder.encoder")
    if reader is not None and of_reader is not None and not reader.same_collection:
        collection = identify(shards)
        common = set(collection.sources) & set(of_reader.sources)
        if common or collection.digest == of_reader.collection:
            raise ConfigError(
                f"{reader.weights} was trained on the collection of these shards "
                f"({', '.join(sorted(common or collection.sources))}). The paper uses an encoder trained on another "
                "one, so that F's encoder has not seen these images. Give an encoder trained on another collection, or "
                "set model.report_decoder.encoder.same_collection=true."
            )
    if config.validation.judge == "encoder":
        require_judge(
            facts.get("validation.encoder"),
            "validation.encoder.weights",
            shards.info.label_names,
            "is a label of the shards",
        )


def _run_path(config: Config) -> Path:
    if config.train.run is None:
        raise ConfigError("train.run is not set. Give --run FOLDER for checkpoints and metrics.")
    return config.train.run.resolve()


def checkpoint_bytes(config: Config) -> int:
    """Return the size of each checkpoint of a run. Raises what `check` raises."""
    from emixer.model_kinds import build_model

    shards, reader = checked(config)
    return _checkpoint_bytes(build_model(config.model, model_spec(shards, reader)))


def _num_parameters(model: PairedModel) -> tuple[int, int]:
    """Return the numbers of the generators and of the discriminators."""
    generators = sum(p.numel() for group in model.generator_parameters().values() for p in group)
    return generators, sum(p.numel() for p in model.discriminator_parameters())


def _checkpoint_bytes(model: PairedModel) -> int:
    generators, critics = _num_parameters(model)
    averaged, networks, moments = generators, generators + critics, 2 * (generators + critics)
    return 4 * (averaged + networks + moments)
