"""What tells the data that a model was trained on from other data, for manifest.json of the datasets that it makes.

A model's spec holds the vocabulary of its training reports, and how many training images have each combination of
labels: shards that give another spec are not those. Digests are enough to see that, and tell nobody how rare a
combination is.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from emixer.errors import RunFolderError
from emixer.generation.trained_model import TrainedModel
from emixer.models.paired_model import ModelSpec
from emixer.run_folder import RunFolder, decisive_settings

_SETTINGS = ("data.uncertain", "data.labelled_fraction", "model.conditions", "model.age_bounds")


@dataclass(frozen=True)
class TrainingData:
    """Digests of a model's training data."""

    side_px: int
    words: str
    """Of the names of the labels and the vocabulary."""
    images: str | None
    """Of the combinations of labels and conditions, and the number of images with each; None: the model does not
    say, because it is a published one or its run folder is not at hand."""
    settings: Mapping[str, Any]
    """What decides about `images`, by dotted key."""

    @classmethod
    def of(cls, trained: TrainedModel) -> Self:
        """Training data of a model."""
        settings = _settings(trained)
        images = digest_of_images(trained.spec) if settings else None
        return cls(
            trained.config.side_px, digest_of_words(trained.spec.label_names, trained.spec.tokens), images, settings
        )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned."""
        return cls(fields["side_px"], fields["words"], fields["images"], fields["settings"])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for manifest.json."""
        return asdict(self)


def digest_of_words(label_names: tuple[str, ...], tokens: tuple[str, ...]) -> str:
    """Digest of the names of the labels and the vocabulary."""
    return _digest([label_names, tokens])


def digest_of_images(spec: ModelSpec) -> str:
    """Digest of the combinations of labels and conditions, and the number of images with each."""
    combinations = sorted(zip(spec.label_vectors, spec.label_counts, strict=True))
    return _digest([spec.conditions.names, spec.conditions.values, combinations])


def _settings(trained: TrainedModel) -> dict[str, Any]:
    """Empty if they are not known."""
    if trained.run_folder is None:
        return {}
    try:
        config = RunFolder.open(trained.run_folder, "train").config
    except RunFolderError:  # of another version: pairs can be drawn from its weights all the same
        return {}
    decisive = decisive_settings("train", config)
    return {key: decisive[key] for key in _SETTINGS}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
