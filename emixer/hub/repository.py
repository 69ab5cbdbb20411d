"""A repository of the Hugging Face Hub that holds a published model: uploading one, downloading one.

This module alone touches the network, and only because it was asked to. `huggingface_hub` decides where the Hub is
(HF_ENDPOINT), which token is used (`hf auth login`, HF_TOKEN) and where downloads lie (HF_HOME); with HF_HUB_OFFLINE it
uses earlier downloads alone.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from emixer._version import __version__
from emixer.config.publish import REPOSITORY_NAME
from emixer.errors import CheckpointError, ConfigError, HubError
from emixer.extras import to_install
from emixer.generation.published_model import CARD, PUBLISHED_FILES, open_published_model
from emixer.hub.card import name_repository

_LIBRARY = "emixer"


def is_repository_name(text: str) -> bool:
    """Whether it could be ORG/NAME."""
    return re.fullmatch(REPOSITORY_NAME, text) is not None


def require_hub(what: str) -> None:
    """Raises ConfigError where the extra is not installed."""
    if find_spec("huggingface_hub") is None:
        raise ConfigError(f"{what} needs a package that is not installed (huggingface_hub). Run {to_install('hub')}.")


def require_token() -> None:
    """Raises HubError where nobody is logged in."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(
            "There is no token for the Hugging Face Hub. Run `hf auth login`, or set HF_TOKEN to a token with write "
            "access, then run the same command again."
        )


def push_to_hub(folder: Path | str, repository: str, private: bool = True) -> str:
    """Uploads a published model in one commit; returns its address.

    private: whether the repository, created if there is none, must be private. Only the four files of a published model
    are sent, whatever else is in the folder; the card gets the repository's name. Raises ConfigError if the extra is
    not installed, CheckpointError for a folder that is not a published model or a damaged one, HubError if the Hub
    refuses, or if the repository is there already and public, before anything is sent.
    """
    require_hub("Uploading a model")
    folder = Path(folder)
    if not is_repository_name(repository):
        raise ConfigError(
            f"{repository!r} is not the name of a repository. Expected ORG/NAME, e.g. my-lab/emixer-chest."
        )
    open_published_model(folder)
    if not (folder / CARD).exists():
        raise CheckpointError(f"{folder} has no {CARD}, the model card. Publish the model again, into the same folder.")
    require_token()
    from huggingface_hub import HfApi

    api = HfApi(library_name=_LIBRARY, library_version=__version__)
    with _readable_errors(repository, None):
        address = api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.repo_info(repository).private:  # create_repo leaves one that is there as it is
            raise HubError(
                f"{repository} is there already, and public. Nothing was sent. Make it private on its page, give "
                "another repository, or publish with --private false."
            )
        name_repository(folder, repository)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            allow_patterns=list(PUBLISHED_FILES),
            commit_message=f"Model published by emixer {__version__}",
        )
    return str(address)


def download(repository: str, revision: str | None) -> Path:
    """The folder of a published model, downloaded unless it was before. Raises ConfigError or HubError as above."""
    require_hub(f"Downloading {repository}")
    from huggingface_hub import snapshot_download

    with _readable_errors(repository, revision):
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(PUBLISHED_FILES),
                library_name=_LIBRARY,
                library_version=__version__,
            )
        )


@contextmanager
def _readable_errors(repository: str, revision: str | None) -> Iterator[None]:
    """Raises HubError for what huggingface_hub raises, the most special first."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{repository} is gated. Ask for access on its page of the Hub, and log in with `hf auth login`."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"The Hub has no repository {repository}, or it is private and your token may not read it, and there is no "
            "folder of that name. Check the name, and run `hf auth login` for a private one."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{repository} has no revision {revision}. Give a branch, a tag or a commit of it, or leave revision out."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise HubError(
            f"The Hub cannot be reached, and {repository} was not downloaded before. Check the connection (and "
            "HF_ENDPOINT and HF_HUB_OFFLINE where they are set), or give a local folder."
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        remedy = "Use a token with write access to it: `hf auth login`." if status in (401, 403) else "Try again later."
        raise HubError(f"The Hub refused {repository} (HTTP status {status}). {remedy}") from error
    except _connection_errors() as error:
        raise HubError(
            f"The transfer of {repository} failed ({type(error).__name__}: {error}). Check the connection to the Hub, "
            "then run the same command again."
        ) from error


def _connection_errors() -> tuple[type[Exception], ...]:
    """requests' are OSErrors; httpx's, which newer versions use, are not; a failed part of an upload is wrapped."""
    from huggingface_hub import errors

    own = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    known: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *own)
    if find_spec("httpx") is None:
        return known
    import httpx

    return (*known, httpx.TransportError)
