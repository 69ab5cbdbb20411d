"""`emixer encoder`: labelled shards -> a chest encoder with its AUCs, as one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emixer.checkpoint import find_checkpoint
from emixer.config import Config
from emixer.config.training import check_batch_size
from emixer.data.collection import identify
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError
from emixer.models.encoder_facts import WEIGHTS_NAME
from emixer.run_folder import RunFolder
from emixer.stages.result import StageResult
from emixer.stages.training_run import check_trackers, start_in_words, trained_checkpoint, training_session


@dataclass(frozen=True)
class EncoderResult(StageResult):
    """Result of a finished encoder run."""

    run: Path
    images: int
    evaluation: dict[str, dict[str, Any]]
    """AUCs by split, as in evaluation.json."""
    was_done: bool

    @property
    def nothing_to_do(self) -> bool:
        return self.was_done

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"run": self.run, "weights": self.run / WEIGHTS_NAME}

    @property
    def figures(self) -> Mapping[str, Any]:
        auc = {
            split: {name: value for name, value in table.items() if name != "text"}
            for split, table in self.evaluation.items()
        }
        return {"images": self.images, "auc": auc}

    def __str__(self) -> str:
        weights = self.run / WEIGHTS_NAME
        lines = [f"Trained on {self.images:,} images: {weights}"]
        for split, table in self.evaluation.items():
            chosen = " (also used to select the checkpoint)" if split == "validate" else ""
            lines += [f"AUC on {split}{chosen}, confidence intervals by subject:", table["text"]]
        lines += [
            "Next:",
            "  emixer train ... --set model.report_decoder.encoder.frozen=true \\",
            "      --set model.report_decoder.encoder.weights_from=emixer \\",
            f"      --set model.report_decoder.encoder.weights={weights} --set validation.encoder.weights={weights}",
        ]
        return "\n".join(lines)


def run(config: Config) -> EncoderResult:
    """Train, or resume, the encoder at `encoder.run`.

    Raises ConfigError, ShardError or RunFolderError before anything starts; DivergenceError when losses are not finite;
    StoppedError when stopped by SIGTERM, KeyboardInterrupt by Ctrl-C.
    """
    from emixer.stages.encoder.plan import EVALUATION_NAME, make_encoder_plan
    from emixer.training.workers import run_workers

    shards, path = _checked(config)
    collection = identify(shards)
    with RunFolder(path).alone("encoder"):
        folder = RunFolder.create_or_resume(path, "encoder", config, shards.digest())
        evaluation_file = path / EVALUATION_NAME
        was_done = _is_done(folder, config)
        if not was_done:
            evaluation_file.unlink(missing_ok=True)  # written last: if it exists, nothing is left to do
            with training_session(folder, "encoder", config.encoder.images, config.ray):
                run_workers(make_encoder_plan(config, shards, path, collection))
    last = trained_checkpoint(folder)
    evaluation = json.loads(evaluation_file.read_text(encoding="utf-8"))
    return EncoderResult(path, last.images, evaluation, was_done)


def _is_done(folder: RunFolder, config: Config) -> bool:
    from emixer.stages.encoder.plan import EVALUATION_NAME

    last = find_checkpoint(folder.checkpoints, "last")
    is_trained = last is not None and last.images >= config.encoder.images
    return is_trained and all((folder.path / name).exists() for name in (EVALUATION_NAME, WEIGHTS_NAME))


def describe(config: Config) -> str:
    """Describe what `run` would do. Raises what it raises before anything starts."""
    from emixer.models.chest_encoder import ChestEncoder

    shards, path = _checked(config)
    folder = RunFolder(path)
    folder.check("encoder", config, shards.digest())
    settings, rows = config.encoder, shards.num_rows("train")
    labels = shards.manifest["labels"]["train"]["names"]
    encoder = ChestEncoder(settings.network, num_labels=len(shards.info.label_names), load_weights=False)
    parameters = sum(p.numel() for p in encoder.parameters())
    where = start_in_words(find_checkpoint(folder.checkpoints, "last"), _is_done(folder, config))
    width = max(map(len, labels))
    counts = [
        f"    {name:<{width}} {n['present']:>9,} {n['absent']:>9,} {n['uncertain']:>10,} {n['not_mentioned']:>13,}"
        for name, n in labels.items()
    ]
    return "\n".join([
        f"Would train a chest encoder in {path} ({where}):",
        f"  data        {rows:,} images in train, {shards.num_rows('validate'):,} in validate, "
        f"{shards.num_rows('test'):,} in test, {config.data.shards}",
        f"  network     {parameters:,} parameters, images of {shards.info.side_px} px resized to "
        f"{settings.network.input_px}",
        f"  schedule    {settings.images:,} images = {settings.images / rows:,.1f} epochs, batch {settings.batch_size} "
        f"over {settings.workers_in_words} worker(s), {settings.precision}",
        f"  labels      uncertain: {settings.uncertain}, not mentioned: {settings.unmentioned}",
        f"    {'':<{width}} {'present':>9} {'absent':>9} {'uncertain':>10} {'not mentioned':>13}",
        *counts,
    ])  # fmt: skip


def _checked(config: Config) -> tuple[ShardSet, Path]:
    settings = config.encoder
    if config.data.shards is None:
        raise ConfigError("data.shards is not set. Give --shards FOLDER, a folder written by `emixer ingest`.")
    if settings.run is None:
        raise ConfigError("encoder.run is not set. Give --run FOLDER for checkpoints and metrics.")
    if settings.network.frozen:
        raise ConfigError("encoder.network.frozen is true, but a frozen encoder cannot be trained. Set it to false.")
    weights = settings.network.weights
    if weights is not None and not weights.exists():
        raise ConfigError(f"encoder.network.weights={weights} does not exist. Give a weights file, or null.")
    shards = ShardSet.open(config.data.shards)
    check_batch_size("encoder", settings)
    check_trackers("encoder", settings)
    for split in ("train", "validate"):
        if not shards.num_rows(split):
            raise ShardError(f"The {split} split of {config.data.shards} is empty. Ingest again with images in it.")
        counts = shards.manifest["labels"][split]
        if not any(name["present"] for name in counts["names"].values()):
            raise ShardError(
                f"No image in the {split} split of {config.data.shards} has a positive label. Ingest with label "
                "columns."
            )
    return shards, settings.run.resolve()
