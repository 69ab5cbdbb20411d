"""Whether shards are what a model was trained on: a copy of other images is not found among these."""

import hashlib
from typing import Literal

from emixer.config import load_config
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import SPECIAL_TOKENS
from emixer.errors import ConfigError
from emixer.generation.training_data import TrainingData, digest_of_images, digest_of_words
from emixer.stages.model_spec import spec_of

Checked = Literal["vocabulary and labels", "vocabulary", "nothing"]
"""By what shards were found to be those of a model."""


def shards_digest(shards: ShardSet) -> str:
    """Digest of the content of the shards, wherever they are."""
    files = sorted((file.split, file.name, file.sha256) for file in shards.shard_files)
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def require_trained_on(shards: ShardSet, known: TrainingData | None, key: str) -> Checked:
    """Raise ConfigError if the shards, of the setting `key`, are not what the model was trained on.

    known: its training data; None: of a dataset that does not say.
    """
    if known is None:
        return "nothing"
    different = _difference(shards, known)
    if different is not None:
        raise ConfigError(
            f"{key}={shards.folder} is not what the model was trained on: {different}. Copies are looked for among "
            f"training images, and those are others. Set {key} to the shards of the model's run."
        )
    if known.images is not None:
        return "vocabulary and labels"
    return "vocabulary" if len(shards.vocabulary) > len(SPECIAL_TOKENS) else "nothing"


def remarks_on(checked: Checked) -> list[str]:
    """Caveats, for people."""
    if checked == "vocabulary and labels":
        return []
    found = (
        "These shards have the vocabulary of the model's training data; whether they have the same images"
        if checked == "vocabulary"
        else "Whether the model was trained on these shards"
    )
    return [
        f"{found} could not be checked: neither a run folder nor the dataset says enough. If it was trained on other "
        "images, copies of those were not looked for. Give the model's run folder with --run."
    ]


def _difference(shards: ShardSet, known: TrainingData) -> str | None:
    if shards.info.side_px != known.side_px:
        return f"its images have {shards.info.side_px} px, the model's {known.side_px} px"
    if digest_of_words(shards.info.label_names, shards.vocabulary.tokens) != known.words:
        return "its labels or its vocabulary differ"
    if known.images is None:
        return None
    now = spec_of(shards, load_config(extra=dict(known.settings)))
    return None if digest_of_images(now) == known.images else "its training images have other labels"
