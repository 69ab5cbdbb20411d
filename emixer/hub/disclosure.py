"""What of a trained model may leave: nothing that its training data could be told by, beyond what the weights hold.

A checkpoint holds more than weights. Its config may name files. How often training images have each combination of
labels, sex, age and view is what pairs are drawn from, and a combination of one image is a statement about a patient.
Its vocabulary may hold words that occur in few reports: names, places, dates. This module removes or refuses each.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from emixer.config.model import ModelConfig
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.errors import ConfigError
from emixer.models.paired_model import ModelSpec


@dataclass(frozen=True)
class Withheld:
    """What was left out of the combinations that pairs are drawn from."""

    min_images: int
    combinations: int
    images: int
    """Training images that have one of these combinations."""
    all_images: int

    def __str__(self) -> str:
        return (
            f"{self.combinations:,} combinations of labels and conditions of fewer than {self.min_images} training "
            f"images left out ({self.images / self.all_images:.1%} of the images)"
        )


def without_rare_combinations(spec: ModelSpec, min_images: int) -> tuple[ModelSpec, Withheld]:
    """The spec without combinations that fewer images have. Raises ConfigError where none would be left."""
    kept = [
        (vector, count)
        for vector, count in zip(spec.label_vectors, spec.label_counts, strict=True)
        if count >= min_images
    ]
    if not kept:
        raise ConfigError(
            f"publish.min_images={min_images} leaves nothing to draw from: no combination of labels and conditions is "
            f"that of so many training images (the most frequent: {max(spec.label_counts, default=0)}). Lower it."
        )
    vectors, counts = zip(*kept, strict=True)
    all_images = sum(spec.label_counts)
    withheld = Withheld(min_images, len(spec.label_vectors) - len(kept), all_images - sum(counts), all_images)
    return replace(spec, label_vectors=vectors, label_counts=counts), withheld


def without_paths(model: ModelConfig) -> ModelConfig:
    """The config without files, which only training reads. Architecture stays."""
    return TypeAdapter[ModelConfig](ModelConfig).validate_python(_without_paths(model.model_dump()))


def require_common_words(vocabulary: Vocabulary, min_token_count: int) -> None:
    """Raises ConfigError for words that are rarer in the training reports. Their message names none."""
    words = len(vocabulary) - len(SPECIAL_TOKENS)
    counts = vocabulary.counts[len(SPECIAL_TOKENS) :] or (vocabulary.min_token_count,) * words
    rare = sum(count < min_token_count for count in counts)
    if rare:
        raise ConfigError(
            f"{rare:,} of {words:,} words of the vocabulary occur fewer than {min_token_count} times in the training "
            f"reports, and might be names. Ingest and train with ingest.min_token_count={min_token_count}, or look at "
            "the shards' vocabulary.json and lower publish.min_token_count."
        )


def _without_paths(tree: dict[str, Any]) -> dict[str, Any]:
    clean = {name: _without_paths(value) if isinstance(value, dict) else value for name, value in tree.items()}
    paths = [name for name, value in clean.items() if isinstance(value, Path)]
    if paths and "frozen" in clean:
        clean["frozen"] = False  # of a chest encoder: weights that are frozen must come from a file
    return clean | dict.fromkeys(paths)
