"""Settings of `emixer serve`: a page on which a trained model draws pairs."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from emixer.config.base import Section, page_address


class ServeConfig(Section):
    """A live page of one model."""

    run: Path | None = Field(None, strict=False)
    """Run folder of the trained model, or one checkpoint folder in it."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run; `last` is taken where no `best` was measured."""
    host: str = "127.0.0.1"
    """Address that the page is served at. Anything but this machine alone needs HTTPS in front."""
    port: int = Field(8766, ge=0, le=65535)
    """Its port; 0 takes a free one."""
    url: str | None = None
    """Public address of the page behind a proxy, e.g. `https://models.example.org/live/`. None: host and port."""
    draws_a_minute: int = Field(60, ge=1)
    """Requests for pairs or downloads that are answered in a minute, of all visitors together."""
    batch_size: int = Field(64, ge=1, le=1024)
    """That of the dataset whose pairs are to be seen, `generate.batch_size`: part of what decides their last bits."""
    cpus: int = Field(1, ge=1)
    """Threads that draw where there is no GPU; as `generate.cpus_per_sampler`, part of what decides the last bits."""
    use_gpu: bool | None = None
    """None: where there is one."""

    _url_is_an_address = field_validator("url")(page_address)
