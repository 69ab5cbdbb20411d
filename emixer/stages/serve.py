"""`emixer serve`: the live page of a trained model, until it is stopped."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from emixer.config import Config
from emixer.config.serve import ServeConfig
from emixer.errors import ConfigError
from emixer.stages.result import StageResult
from emixer.web.access import digest_of, link, new_token
from emixer.web.server import address_in_words, bound_socket, require_web, serve, warn_if_reachable

_COMMAND = "serve"


@dataclass(frozen=True)
class ServedModel(StageResult):
    """A server that has been stopped."""

    run: Path

    @property
    def outputs(self) -> Mapping[str, Path]:
        return {"run": self.run}

    @property
    def figures(self) -> Mapping[str, int]:
        return {}

    def __str__(self) -> str:
        return f"Ended. `emixer serve --run {self.run}` serves it again, with a new link."


def run(config: Config) -> ServedModel:
    """Serve the page until SIGINT or SIGTERM.

    Raises ConfigError if the address cannot be bound, RunFolderError or CheckpointError if there is no model.
    """
    require_web(_COMMAND)
    # these need torch or the extra `web`
    from emixer.generation.sampler import Sampler
    from emixer.generation.trained_model import read_trained_model
    from emixer.live.app import live_app
    from emixer.live.drawing import DrawingThread
    from emixer.live.limits import RateLimit
    from emixer.models.cuda import choose_device

    settings = config.serve
    folder = _run_of(settings)
    trained = read_trained_model(folder, settings.checkpoint)
    bound = bound_socket(settings.host, settings.port, _COMMAND)
    with closing(bound):
        sampler = Sampler(trained, choose_device(settings.use_gpu, "serve.use_gpu"), settings.batch_size)
        token = new_token()
        with closing(DrawingThread(sampler, settings.cpus)) as drawing:
            app = live_app(drawing, RateLimit(settings.draws_per_minute), digest_of(token), folder.name)
            address = link(settings.url or address_in_words(bound, settings.host), token)
            serve(app, bound, lambda: _announce(settings, address))
    return ServedModel(folder)


def describe(config: Config) -> str:
    """Describe what `run` would do. Opens no port."""
    require_web(_COMMAND)
    from emixer.generation.trained_model import read_trained_model

    settings = config.serve
    trained = read_trained_model(_run_of(settings), settings.checkpoint)
    address = settings.url or f"http://{settings.host}:{settings.port}/"
    return (
        f"Would serve {trained.path} ({trained.config.kind}, {trained.config.side_px} px) at {address}, at most "
        f"{settings.draws_per_minute} draws a minute."
    )


def _run_of(settings: ServeConfig) -> Path:
    if settings.run is None:
        raise ConfigError("serve.run is not set. Give --run FOLDER.")
    return settings.run


def _announce(settings: ServeConfig, address: str) -> None:
    warn_if_reachable(settings.host, "docs/serve.md")
    click.echo(f"Open {address}")
    click.echo("Whoever has this link may draw pairs. They are synthetic and not for clinical use. Ctrl-C ends it.")
