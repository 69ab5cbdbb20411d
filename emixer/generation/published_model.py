"""A published model on disk: all that drawing pairs needs, and nothing else of a run.

README.md           model card (emixer.hub.card)
config.json         version, networks, labels, conditions, how often training images have them, what it was trained on
vocabulary.json     words of the reports by id
model.safetensors   moving averages of the sampling networks, as in a checkpoint's sampler.safetensors

Nothing in it is executed: JSON and safetensors are data.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from emixer._version import __version__
from emixer.config.model import ModelConfig
from emixer.data.vocabulary import Vocabulary
from emixer.errors import CheckpointError, ShardError
from emixer.files import sha256_of, write_json
from emixer.models.paired_model import ModelSpec

FORMAT = "emixer"
FORMAT_VERSION = 1
CARD, CONFIG, VOCABULARY, WEIGHTS = "README.md", "config.json", "vocabulary.json", "model.safetensors"
PUBLISHED_FILES = (CARD, CONFIG, VOCABULARY, WEIGHTS)


@dataclass(frozen=True)
class PublishedModel:
    """An opened folder. state: `model`, `spec`, `images` and `source`, as a checkpoint has them."""

    path: Path
    state: dict[str, Any]
    digest: str
    """SHA-256 of the weights' file."""

    @property
    def images(self) -> int:
        """Real images trained on."""
        return int(self.state["images"])

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights."""
        try:
            tensors: dict[str, Tensor] = safetensors.torch.load_file(self.path / WEIGHTS)
        except (OSError, safetensors.SafetensorError) as error:
            raise _damaged(self.path / WEIGHTS, type(error).__name__) from error
        return tensors


def is_published_model(path: Path) -> bool:
    """Whether the folder says that it is one, of whatever version."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def published_config(model: ModelConfig, spec: ModelSpec, images: int, facts: dict[str, Any]) -> dict[str, Any]:
    """The content of config.json. facts: what else it says; `weights_sha256` and `training_data` are among them."""
    known = {name: value for name, value in spec.to_json().items() if name != "tokens"}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "images": images,
        **facts,
        "model": model.model_dump(mode="json"),
        "spec": known,
    }


def write_description(folder: Path, config: dict[str, Any], vocabulary: Vocabulary) -> None:
    """Writes config.json and vocabulary.json."""
    write_json(folder / CONFIG, config)
    vocabulary.save(folder / VOCABULARY)


def open_published_model(path: Path) -> PublishedModel:
    """Opens a folder that `emixer publish` wrote.

    Raises CheckpointError when it is no published model, of another version, or damaged.
    """
    config = read_config(path)
    try:
        vocabulary = Vocabulary.load(path / VOCABULARY)
        digest = sha256_of(path / WEIGHTS)
        if digest != config["weights_sha256"]:
            raise _damaged(path / WEIGHTS, "its SHA-256 is not the one in config.json")
        spec = {**config["spec"], "tokens": list(vocabulary.tokens)}
        state = {key: config[key] for key in ("model", "images", "training_data")} | {"spec": spec}
    except (ShardError, OSError, KeyError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    return PublishedModel(path, state, digest)


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a published model. Raises CheckpointError when it is none, or of another version."""
    if not is_published_model(path):
        raise CheckpointError(
            f"{path} is not a published model. Expected a folder written by `emixer publish`, with {CONFIG}, "
            f"{VOCABULARY} and {WEIGHTS}; emixer.load opens run folders."
        )
    config: dict[str, Any] = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version} (written by emixer {config.get('package_version')}); this emixer "
            f"{__version__} reads version {FORMAT_VERSION}. Install the emixer that wrote it, or ask for the model in "
            "this version."
        )
    return config


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged ({reason}). Publish or download the model again.")
