"""Where measurements of real images are kept: never in a folder that is made to be given away.

They are named by content, so that every audit, screening or evaluation with the same images can share a folder. And
whether their features can be compared: those of an encoder that was trained on some of them cannot without care.
"""

from pathlib import Path

from emixer import files
from emixer.config.model import ChestEncoderConfig
from emixer.data.collection import identify
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, StorageError
from emixer.generation.manifest import is_dataset
from emixer.generation.published_model import is_published_model
from emixer.models.encoder_facts import read_encoder_facts


def kept_in(given: Path | None, default: Path, key: str, dataset: Path) -> Path:
    """The folder `given`, which the setting `key` names, else `default`. dataset: the one at hand, begun or not.

    Raises ConfigError if it lies in a dataset or a published model, or cannot be written.
    """
    folder = (given or default).resolve()
    setting = f"{key}={folder}" if given is not None else f"{folder}, the default of {key},"
    shared = given_away_with(folder, dataset)
    if shared is not None:
        raise ConfigError(
            f"{setting} is inside {shared}, which is made to be given away, but will hold measurements of real images. "
            f"Set {key} to a folder outside datasets and published models."
        )
    try:
        files.require_writable(folder)
    except StorageError as error:
        raise ConfigError(
            f"{setting} cannot be written, and measurements of real images are to be kept there. Set {key} to a folder "
            "that you may write to, outside datasets and published models."
        ) from error
    return folder


def same_collection_remarks(encoder: ChestEncoderConfig, shards: ShardSet, hence: str) -> list[str]:
    """Caveat if the encoder's file says that it was trained on the training images of these shards. hence: what follows
    from it for the figures at hand."""
    assert encoder.weights is not None, "checked"
    facts = read_encoder_facts(encoder.weights)
    if facts is None or facts.collection != identify(shards).digest:
        return []
    return [
        "The encoder was trained on the training images of this very collection, and may know them better than "
        f"held-out ones: {hence}, or give an encoder trained on another collection."
    ]


def given_away_with(folder: Path, dataset: Path | None = None) -> Path | None:
    """The dataset or published model that `folder` lies in, or is; None: in none. dataset: the one at hand, begun or
    not."""
    at_hand = None if dataset is None else dataset.resolve()
    return next((each for each in (folder, *folder.parents) if each == at_hand or _is_given_away(each)), None)


def _is_given_away(folder: Path) -> bool:
    return is_dataset(folder) or is_published_model(folder)
