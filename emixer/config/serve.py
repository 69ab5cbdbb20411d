"""Settings of `emixer serve`: a page on which a trained model draws pairs."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from emixer.config.base import Section, page_address


class ServeConfig(Section):
    """A live page of one model."""

    run: Path | None = Field(None, strict=False)
    """Run folder of the trained model, or a checkpoint folder in it."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run; falls back to `last` if the run has no `best`."""
    host: str = "127.0.0.1"
    """Address that the page is served at. Anything other than this machine needs an HTTPS proxy in front."""
    port: int = Field(8766, ge=0, le=65535)
    """Its port; 0 picks a free one."""
    url: str | None = None
    """Public address of the page behind a proxy, e.g. `https://models.example.org/live/`. Default: host and port."""
    draws_per_minute: int = Field(60, ge=1)
    """Draws and downloads answered per minute, over all visitors."""
    batch_size: int = Field(64, ge=1, le=1024)
    """`generate.batch_size` of the dataset whose pairs the page should reproduce; it affects their last bits."""
    cpus: int = Field(1, ge=1)
    """Threads that draw on a CPU; like `generate.cpus_per_sampler`, it affects the last bits of pairs."""
    use_gpu: bool | None = None
    """Whether to use a GPU. Default: if there is one."""

    _url_is_an_address = field_validator("url")(page_address)
