"""What the training data decides about a model."""

from emixer.data.loader import WindowReader
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
