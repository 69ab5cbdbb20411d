"""`emixer.from_pretrained("my-lab/emixer-chest").sample(...)`: a published model, from a folder or from the Hub."""

from pathlib import Path

import torch

from emixer.errors import CheckpointError, ConfigError
from emixer.generation.published_model import read_config
from emixer.generation.sampler import DEFAULT_BATCH, Sampler
from emixer.generation.trained_model import read_trained_model
from emixer.hub.repository import download, is_repository_name


def from_pretrained(
    name_or_path: Path | str,
    revision: str | None = None,
    device: torch.device | str | None = None,
    batch_size: int = DEFAULT_BATCH,
) -> Sampler:
    """The sampler of a published model: a folder that `emixer publish` wrote, or ORG/NAME of the Hugging Face Hub.

    A folder that exists never touches the network. revision: branch, tag or commit of a repository. device, batch_size:
    as `emixer.load`. Nothing that is downloaded is executed.

    Raises CheckpointError for what is no published model, of another version or damaged; ConfigError where the extra
    `hub` is needed and not installed; HubError when the Hub has no such model or cannot be reached.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigError(
                f"revision={revision} was given with the folder {folder}. Only repositories have revisions."
            )
    elif is_repository_name(str(name_or_path)):
        folder = download(str(name_or_path), revision)
    else:
        raise CheckpointError(
            f"There is no folder {folder}, and it is not the name of a repository of the Hub. Give a folder written by "
            "`emixer publish`, or ORG/NAME."
        )
    read_config(folder)
    return Sampler(read_trained_model(folder), device, batch_size)
