"""What the training data decides about a model."""

from emixer.config import Config
from emixer.data.known_of_images import find_conditions
from emixer.data.loader import WindowReader, open_without_reports
from emixer.data.shards import ShardSet
from emixer.errors import ShardError
from emixer.models.paired_model import ModelSpec


def model_spec(shards: ShardSet, reader: WindowReader) -> ModelSpec:
    """What the training data decides about the model. Raises ShardError when no image has labels."""
    vectors, counts = reader.label_counts()
    if not len(vectors):
        raise ShardError(
            f"No image in the train split of {shards.folder} has labels, but generation is conditioned on them. "
            "Ingest with label columns, or raise data.labelled_fraction."
        )
    return ModelSpec(
        label_names=shards.info.label_names,
        tokens=tuple(shards.vocabulary.tokens),
        label_vectors=tuple(tuple(int(v) for v in vector) for vector in vectors),
        label_counts=tuple(int(count) for count in counts),
        conditions=reader.conditions,
    )


def spec_of(shards: ShardSet, config: Config) -> ModelSpec:
    """Model spec (words and labels) that training on these shards under that config would give."""
    conditions = find_conditions(shards, config.model.conditions, config.model.age_bounds)
    reader = open_without_reports(shards, "train", config.data, config.seed, conditions=conditions)
    return model_spec(shards, reader)
