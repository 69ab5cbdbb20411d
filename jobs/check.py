"""Checks on the login node, without torch, that find errors before a job waits in the queue for hours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cluster.node.ray_node import require_short_disk_path
from emixer import files
from emixer.config import Config, with_overrides
from emixer.config.base import beside
from emixer.config.experiment import ExperimentConfig
from emixer.config.generator_name import GeneratorName
from emixer.config.model import ChestEncoderConfig
from emixer.config.training import EncoderConfig, TrainConfig, check_batch_size
from emixer.errors import ConfigError, StorageError
from emixer.tuning.space_syntax import ends, read_space, require_prunable

Made = Sequence[Path] | None
"""Folders; None: any folder, as it is unknown what the earlier jobs write."""


def check_stage(stage: str, config: Config, made: Made = ()) -> None:
    """Raise ConfigError if the stage would fail. made: folders that other jobs will have written by then."""
    checks = {
        "ingest": _ingest, "encoder": _encoder, "train": _train, "tune": _tune, "generate": _generate,
        "evaluate": _evaluate, "audit": _audit, "experiment": _experiment, "study": _study,
    }  # fmt: skip
    checks[stage](config, made)
    _local_disk(config)


def _ingest(config: Config, made: Made) -> None:
    if config.ingest.source is None or config.ingest.out is None:
        raise ConfigError("ingest.source and ingest.out must be set.")
    _require("ingest.source.root", config.ingest.source.root, made)
    _require_output("ingest.out", config.ingest.out)


def _encoder(config: Config, made: Made) -> None:
    _require("data.shards", config.data.shards, made)
    _require_output("encoder.run", config.encoder.run)
    if config.encoder.network.weights is not None:
        _require("encoder.network.weights", config.encoder.network.weights, made)
    _fits("encoder", config.encoder, config)


def _train(config: Config, made: Made) -> None:
    _require("data.shards", config.data.shards, made)
    _require_output("train.run", config.train.run)
    _encoders(config, made)
    _same_side(config)
    _fits("train", config.train, config)


def _encoders(config: Config, made: Made) -> None:
    """Require the weights of the encoders that training is given."""
    encoders = {
        "model.report_decoder.encoder": config.model.chest_encoder, "validation.encoder": config.validation.encoder
    }  # fmt: skip
    for key, encoder in encoders.items():
        _weights(key, encoder, made)


def _measuring_encoder(section: Literal["audit", "evaluate"], config: Config, made: Made) -> None:
    """Require the weights of the encoder that measures images in that section."""
    key, encoder = config.measuring_encoder(section)
    _weights(key, encoder, made)


def _weights(key: str, encoder: ChestEncoderConfig | None, made: Made) -> None:
    if encoder is not None and encoder.weights is not None:
        _require(f"{key}.weights", encoder.weights, made)


def _same_side(config: Config) -> None:
    """Require images of the size that the model generates, if the shards exist. Reads them without pyarrow."""
    folder = config.data.shards
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8")) if folder is not None else {}
        side_px = manifest.get("settings", {}).get("side_px")
    except (OSError, ValueError, AttributeError):  # the stage itself reports what is wrong
        return
    if isinstance(side_px, int) and side_px != config.model.side_px:
        raise ConfigError(
            f"model.side_px={config.model.side_px}, but the images in {folder} have {side_px} px. Set "
            f"model.side_px={side_px}, or ingest with side_px={config.model.side_px}."
        )


def _tune(config: Config, made: Made) -> None:
    if config.tune.storage != config.tune.written_storage:
        raise ConfigError(
            "A job's files would hold the password of tune.storage. Omit it from the URL, and let the driver find it, "
            "e.g. in ~/.pgpass."
        )
    _require_output("tune.study", config.tune.study)
    trial = with_overrides(config, {"train.run": config.tune.study})
    _train(trial, made)
    space = read_space(config.tune.space, config)
    require_prunable(config)
    for end in ends(space, trial):
        _train(end, made)


def _generate(config: Config, made: Made) -> None:
    _require("generate.run", config.generate.run, made)
    if config.generate.audit is not None:
        _require("generate.audit", config.generate.audit, made)
        _measuring_encoder("audit", config, made)
    _require_output("generate.out", config.generate.out)
    _require_gpu_to_generate(config)


def _evaluate(config: Config, made: Made) -> None:
    _require("data.shards", config.data.shards, made)
    _require("evaluate.dataset", config.evaluate.dataset, made)
    for key in ("inception", "rad_dino", "chexbert", "radgraph"):
        path = getattr(config.evaluate, key)
        if path is not None:
            _require(f"evaluate.{key}", path, ())
    _measuring_encoder("evaluate", config, made)
    assert config.data.shards is not None
    _require_output("evaluate.features", config.evaluate.features or beside(config.data.shards, "features"))
    _require_output("evaluate.out", config.evaluate.out or config.evaluate.dataset)
    _require_gpu("evaluate", config.evaluate.use_gpu, config)


def _audit(config: Config, made: Made) -> None:
    _require("data.shards", config.data.shards, made)
    _require("audit.dataset", config.audit.dataset, made)
    _measuring_encoder("audit", config, made)
    if config.audit.run is not None:
        _require("audit.run", config.audit.run, made)
    else:
        assert config.data.shards is not None
        _require_output("audit.measured", config.audit.measured or beside(config.data.shards, "measured"))
    _require_output("audit.out", config.audit.out or config.audit.dataset)
    _require_gpu("audit", config.audit.use_gpu, config)


def _experiment(config: Config, made: Made) -> None:
    settings = config.experiment
    _require("data.shards", config.data.shards, made)
    _require_output("experiment.out", settings.out)
    if settings.table == "table5":
        _require("experiment.covid", settings.covid, made)
    for given in settings.runs:
        _require("experiment.runs", Path(given.partition("=")[2]), made)
    _weights("validation.encoder", config.validation.encoder, made)
    if settings.cpus_per_cell > config.slurm.cpus:
        raise ConfigError(
            f"experiment.cpus_per_cell={settings.cpus_per_cell} is more than a node has (slurm.cpus="
            f"{config.slurm.cpus}). Raise slurm.cpus, or lower experiment.cpus_per_cell."
        )
    _require_gpu("experiment", settings.use_gpu, config)
    models = _models(settings)
    if models:
        _require_gpu_to_generate(config)
    if models - {GeneratorName.parse(run.partition("=")[0]) for run in settings.runs}:
        _encoders(config, made)
        _same_side(config)
        _fits("train", config.train, config)


def _models(settings: ExperimentConfig) -> set[GeneratorName]:
    """Models whose pairs the table needs, given or to be trained."""
    from emixer.experiments.tables import table_of  # here: it imports numpy, which no other job's check needs

    # the number of training images decides only about rows without a generator
    needed = table_of(settings, num_train=0).generators(settings.seeds)
    return {GeneratorName.parse(name).model for name in needed}


def _require_gpu_to_generate(config: Config) -> None:
    """Require the GPUs that samplers, and the audit that screens their pairs, are to use."""
    _require_gpu("generate", config.generate.use_gpu, config)
    if config.generate.audit is not None:
        _require_gpu("audit", config.audit.use_gpu, config)


def _study(config: Config, made: Made) -> None:
    _require("data.shards", config.data.shards, made)
    _require("study.dataset", config.study.dataset, made)
    _require_output("study.folder", config.study.folder)


def _require_named(key: str, path: Path | None) -> None:
    if path is None:
        raise ConfigError(f"{key} is not set.")


def _require_output(key: str, path: Path | None) -> None:
    _require_named(key, path)
    assert path is not None
    try:
        files.require_writable(path.resolve())
    except StorageError as error:
        raise ConfigError(f"{key}: {error} Or set {key} to another folder.") from error


def _require(key: str, path: Path | None, made: Made) -> None:
    _require_named(key, path)
    if path is None or made is None or path.exists():
        return
    if not any(path.is_relative_to(folder) for folder in made):
        raise ConfigError(f"{key}={path} does not exist. Correct it, or use --after with the job that will write it.")


def _require_gpu(section: str, use_gpu: bool | None, config: Config) -> None:
    """Require that the job requests GPUs if the section is to use them: Ray would wait for them silently."""
    if use_gpu and not config.slurm.gpus:
        raise ConfigError(
            f"{section}.use_gpu=true, but the job requests no GPU. Set slurm.gpus_per_node or slurm.gres."
        )


def _fits(section: str, schedule: TrainConfig | EncoderConfig, config: Config) -> None:
    """Require that the configured workers fit on the requested nodes."""
    slurm, (fewest, workers) = config.slurm, schedule.worker_range
    if fewest != workers:
        raise ConfigError(
            f"{section}.num_workers=[{fewest}, {workers}] is for an autoscaling cluster (`python -m cluster`); a job "
            "has a fixed number of nodes. Give one number."
        )
    check_batch_size(section, schedule)
    _require_gpu(section, schedule.use_gpu, config)
    gpus = slurm.nodes * slurm.gpus
    if gpus and workers > gpus and schedule.use_gpu is not False:
        asked = "slurm.gres" if slurm.gres else "slurm.gpus_per_node"
        raise ConfigError(
            f"{section}.num_workers={workers} need one GPU each, but {slurm.nodes} node(s) x {slurm.gpus} GPU(s) give "
            f"{gpus}. Lower {section}.num_workers, or raise slurm.nodes or {asked}."
        )
    per_node = slurm.cpus // schedule.cpus_per_worker
    if workers > slurm.nodes * per_node:
        raise ConfigError(
            f"{section}.num_workers={workers} x {schedule.cpus_per_worker} CPU(s) do not fit on {slurm.nodes} "
            f"node(s) with {slurm.cpus} CPUs. Raise slurm.cpus or slurm.nodes, or lower {section}.num_workers."
        )


def _local_disk(config: Config) -> None:
    try:
        require_short_disk_path("slurm.local_disk", config.slurm.local_disk)
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
