"""`emixer publish`: a trained run -> a folder that may be given to others, and to the Hub if asked."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emixer import files
from emixer.checkpoint import SAMPLER, read_checkpoint, reading
from emixer.config import Config
from emixer.config.publish import PublishConfig
from emixer.data.collection import describe_training_data
from emixer.data.loader import open_windows
from emixer.data.patients import patients_of_words
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import Vocabulary
from emixer.errors import CheckpointError, ConfigError, RunFolderError, ShardError
from emixer.generation.published_model import (
    CARD,
    PUBLISHED_FILES,
    WEIGHTS,
    is_published_model,
    open_published_model,
    published_config,
    read_config,
    write_description,
)
from emixer.generation.trained_model import TrainedModel, read_trained_model, sampling_model
from emixer.hub.card import PublishedFacts, model_card
from emixer.hub.disclosure import require_common_words, without_paths, without_rare_combinations
from emixer.hub.repository import push_to_hub, require_hub, require_token
from emixer.run_folder import RunFolder
from emixer.stages.model_spec import model_spec
from emixer.stages.result import StageResult


@dataclass(frozen=True)
class PublishResult(StageResult):
    """A published model."""

    folder: Path
    num_bytes: int
    was_there: bool
    told: str
    """What was withheld."""
    address: str | None
    """Where it is on the Hub; None: it was not uploaded."""

    @property
    def nothing_to_do(self) -> bool:
        return self.was_there and self.address is None

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"model": self.folder, "card": self.folder / CARD}

    @property
    def figures(self) -> Mapping[str, Any]:
        return {"bytes": self.num_bytes, "withheld": self.told, "address": self.address}

    def __str__(self) -> str:
        state = "Already published" if self.was_there else "Published"
        lines = [
            f"{state}: {self.folder}, {self.num_bytes / 1e6:,.1f} MB",
            f"  {self.told}",
            f"Read {self.folder / CARD}, and complete it, before you share the folder. In Python:",
            f'  emixer.from_pretrained("{self.folder}").sample(num=4)',
        ]
        return "\n".join([*lines, *([f"Uploaded: {self.address}"] if self.address is not None else [])])


@dataclass(frozen=True)
class _Publication:
    """A model ready to be written."""

    facts: PublishedFacts
    trained: TrainedModel
    vocabulary: Vocabulary


def run(config: Config) -> PublishResult:
    """Writes the folder, and uploads it if `publish.push` is set.

    Raises ConfigError, RunFolderError, CheckpointError or ShardError before anything is written; StorageError when the
    disk is full; HubError when the upload fails, with the folder kept.
    """
    settings = config.publish
    folder = _out(settings)
    if settings.push is not None:
        require_hub("publish.push")
        require_token()
    publication = _prepare(config)
    with files.alone_at(folder, "publish"):
        was_there = _is_same(folder, publication) and _is_whole(folder)
        if not was_there:
            _write(folder, publication)
    address = push_to_hub(folder, settings.push, settings.private) if settings.push is not None else None
    num_bytes = sum((folder / name).stat().st_size for name in PUBLISHED_FILES)
    return PublishResult(folder, num_bytes, was_there, str(publication.facts.withheld), address)


def describe(config: Config) -> str:
    """What `run` would do. Writes nothing and uses no network."""
    settings = config.publish
    folder, publication = _out(settings), _prepare(config)
    _is_same(folder, publication)
    num_bytes = sum(tensor.nbytes for tensor in publication.trained.tensors.values())
    facts = publication.facts
    where = f", then upload it to {settings.push}" if settings.push is not None else ""
    return "\n".join([
        f"Would write {folder}{where}:",
        f"  model    {facts.model.kind}, {facts.model.side_px} px, {facts.images:,} images; {num_bytes / 1e6:,.1f} MB",
        f"  data     {', '.join(facts.training_data['sources'])}",
        f"  licence  {facts.license_name or facts.license}",
        f"  privacy  {facts.withheld}",
    ])  # fmt: skip


def _prepare(config: Config) -> _Publication:
    settings = config.publish
    if settings.run is None or settings.license is None:
        name, flag = ("run", "--run FOLDER") if settings.run is None else ("license", "--license cc-by-nc-4.0, say")
        raise ConfigError(f"publish.{name} is not set. Give {flag}.")
    if is_published_model(settings.run):
        raise ConfigError(f"{settings.run} is a published model already. Give the run folder that it came from.")
    trained = read_trained_model(settings.run, settings.checkpoint)
    sampling_model(trained)  # the weights are all that sampling needs, and no more
    run_config = _run_config(trained)
    shards = _shards(config, run_config)
    vocabulary = shards.vocabulary
    if vocabulary.tokens != trained.spec.tokens:
        raise ConfigError(
            f"{shards.folder} has another vocabulary than the model. Give the shards that it was trained on: "
            "--shards FOLDER."
        )
    require_common_words(
        vocabulary, patients_of_words(shards).tolist(), settings.min_token_count, settings.min_token_patients
    )
    patients = _patients_of_labels(trained, shards, run_config)
    spec, withheld = without_rare_combinations(trained.spec, patients, settings.min_patients)
    facts = PublishedFacts(
        model=without_paths(trained.config),
        spec=spec,
        images=trained.images,
        license=settings.license,
        license_name=settings.license_name,
        training_data=describe_training_data(shards),
        validation=dict(read_checkpoint(trained.path).state.get("validation") or {}),
        withheld=withheld,
    )
    return _Publication(facts, trained, Vocabulary(vocabulary.tokens, min_token_count=vocabulary.min_token_count))


def _patients_of_labels(trained: TrainedModel, shards: ShardSet, run_config: Config) -> list[int]:
    """How many patients each combination of the model's spec has. Raises ConfigError for shards it is not of."""
    model = trained.config
    reader = open_windows(
        shards, "train", run_config.data, run_config.seed, model.max_sentences, model.max_words,
        conditions=trained.spec.conditions,
    )  # fmt: skip
    if model_spec(shards, reader) != trained.spec:
        raise ConfigError(
            f"The images in {shards.folder} have other labels than those that the model was trained on. Give the "
            "shards that it was trained on: --shards FOLDER."
        )
    return [int(num) for num in reader.patients_of_labels()]


def _run_config(trained: TrainedModel) -> Config:
    """Config of the run that the checkpoint is in. Raises RunFolderError for a checkpoint elsewhere."""
    if trained.run_folder is None:
        raise RunFolderError(
            f"The checkpoint {trained.path} is in no run folder, and only the run's config says which images and "
            "labels it was trained on. Give the run folder that it came from: --run FOLDER."
        )
    return RunFolder.open(trained.run_folder, "train").config


def _shards(config: Config, run_config: Config) -> ShardSet:
    """What the model was trained on: `data.shards`, or else what the run names."""
    folder = config.data.shards or run_config.data.shards
    if folder is None:
        raise ConfigError("data.shards is not set, and the run names none. Give --shards FOLDER.")
    try:
        return ShardSet.open(folder)
    except ShardError as error:
        raise ShardError(
            f"The model card names the training data from the shards' manifest. {error} Where the shards were moved, "
            "give --shards FOLDER."
        ) from error


def _config_of(publication: _Publication) -> dict[str, Any]:
    facts = publication.facts
    told = {
        "license": facts.license,
        **({"license_name": facts.license_name} if facts.license_name is not None else {}),
        "training_data": dict(facts.training_data),
        "weights_sha256": publication.trained.digest,
    }
    return published_config(facts.model, facts.spec, facts.images, told)


def _is_same(folder: Path, publication: _Publication) -> bool:
    """Whether this very model lies there. Raises RunFolderError for anything else but nothing."""
    if not folder.exists() or (folder.is_dir() and all(map(files.is_bookkeeping, folder.iterdir()))):
        return False
    if not is_published_model(folder):
        raise RunFolderError(f"{folder} exists and is not a published model. Choose a new folder.")
    before, now = read_config(folder), json.loads(json.dumps(_config_of(publication)))  # tuples are lists in a file
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        raise RunFolderError(
            f"{folder} holds a published model with another {', '.join(differing)}. Choose a new folder, or delete "
            "this one."
        )
    return True


def _is_whole(folder: Path) -> bool:
    """Whether the model of this config can be loaded, and has a card; if not, it is written again."""
    try:
        open_published_model(folder)
    except CheckpointError:
        return False
    return (folder / CARD).exists()


def _write(folder: Path, publication: _Publication) -> None:
    with files.written_aside(folder) as aside:
        if folder.exists():
            shutil.copytree(folder, aside)  # of a damaged one, a completed card and what else is there stay
        else:
            aside.mkdir()
        with reading(publication.trained.path):
            # byte for byte, so that datasets of the run and of the published model name the same weights
            shutil.copyfile(publication.trained.path / f"{SAMPLER}.safetensors", aside / WEIGHTS)
        write_description(aside, _config_of(publication), publication.vocabulary)
        if not (aside / CARD).exists():
            files.write_text(aside / CARD, model_card(publication.facts))


def _out(settings: PublishConfig) -> Path:
    if settings.out is None:
        raise ConfigError("publish.out is not set. Give --out FOLDER.")
    files.require_writable(settings.out.absolute())
    return settings.out
