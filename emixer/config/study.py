"""Settings of `emixer study`: a blinded reader study of real and generated pairs."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from emixer.config.base import Section, page_address


class StudyConfig(Section):
    """A reader study: pairs, readers, web server and analysis."""

    folder: Path | None = Field(None, strict=False)
    """Folder of the study: images, items, scores, the key."""
    dataset: Path | None = Field(None, strict=False)
    """Generated dataset to draw from; real pairs come from `data.shards`."""
    split: Literal["validate", "test"] = "test"
    """Split of the shards that the real pairs are drawn from."""
    pairs: int = Field(50, ge=1, le=5000)
    """Real pairs to draw, and the same number of generated ones."""
    repeats: int = Field(10, ge=0)
    """Pairs that each reader sees twice, half of them real, for intra-reader agreement."""
    readers: int = Field(2, ge=1, le=500)
    """Number of readers; each has their own link and order."""
    labels: tuple[str, ...] = Field((), strict=False)
    """Labels to balance real and generated pairs over, by name; `no label` means pairs without any. Empty: all labels
    with enough real and generated pairs."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed for drawing the pairs. Readers' orders, item names and links are random regardless of it: a known seed would
    give away which places are real."""
    title: str = Field("Chest radiographs and their reports", min_length=1, max_length=120)
    """Heading of the readers' page. It should not reveal what is studied."""
    host: str = "127.0.0.1"
    """Address that `emixer study serve` listens on. Anything other than this machine needs an HTTPS proxy in front."""
    port: int = Field(8765, ge=0, le=65535)
    """Its port; 0 picks a free one."""
    url: str | None = None
    """Public address of the readers' page, e.g. `https://study.example.org/reading/`. Default: host and port."""
    key: Path | None = Field(None, strict=False)
    """Path of `key.json` for `emixer study report`, if it was moved. Default: in the study folder."""
    out: Path | None = Field(None, strict=False)
    """Output folder. Default: `report` in the study folder."""
    resamples: int = Field(2000, ge=20, le=100_000)
    """Resamples of the pairs, and of the readers if there are at least three, for 95 % confidence intervals."""

    @model_validator(mode="after")
    def _repeats_are_pairs_of_the_study(self) -> "StudyConfig":
        if self.repeats > 2 * self.pairs:
            raise ValueError(f"repeats={self.repeats} is more than the {2 * self.pairs} pairs of the study")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must have no duplicates")
        return self

    _url_is_an_address = field_validator("url")(page_address)
