"""Settings of `emixer study`: readers score real and generated pairs without knowing which is which."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from emixer.config.base import Section


class StudyConfig(Section):
    """A reader study: its pairs, its readers, where it is served and how its scores are read."""

    folder: Path | None = Field(None, strict=False)
    """Folder of the study: images, items, scores, the key."""
    dataset: Path | None = Field(None, strict=False)
    """Finished dataset that the generated pairs are drawn from; the real ones come from `data.shards`."""
    split: Literal["validate", "test"] = "test"
    """Split of the shards that the real pairs are drawn from."""
    pairs: int = Field(50, ge=1, le=5000)
    """Real pairs to draw, and as many generated ones."""
    repeats: int = Field(10, ge=0)
    """Pairs that each reader sees twice, half of them real, for the agreement of a reader with themselves."""
    readers: int = Field(2, ge=1, le=500)
    """Readers; each has a link and an order of their own."""
    labels: tuple[str, ...] = Field((), strict=False)
    """Labels that real and generated pairs are balanced over, by name; `no label` means pairs without any. Empty: all
    that have enough pairs on both sides."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Decides which pairs are drawn and their orders. Names of items and the readers' links are random whatever it is.
    """
    title: str = Field("Chest radiographs and their reports", min_length=1, max_length=120)
    """Heading of the readers' page. It should not tell what is studied."""
    host: str = "127.0.0.1"
    """Address that `emixer study serve` listens on. Anything but this machine alone needs HTTPS in front."""
    port: int = Field(8765, ge=0, le=65535)
    """Its port; 0 takes a free one."""
    url: str | None = None
    """Address under which readers reach the page, e.g. `https://study.example.org/reading/`. None: host and port."""
    key: Path | None = Field(None, strict=False)
    """Where `key.json` is for `emixer study report`, if it was kept elsewhere. None: in the folder of the study."""
    out: Path | None = Field(None, strict=False)
    """Folder of the results. None: `report` in the folder of the study."""
    resamples: int = Field(2000, ge=20, le=100_000)
    """Of the pairs, and of the readers where there are at least three, for 95 % intervals."""

    @model_validator(mode="after")
    def _repeats_are_pairs_of_the_study(self) -> "StudyConfig":
        if self.repeats > 2 * self.pairs:
            raise ValueError(f"repeats={self.repeats} is more than the {2 * self.pairs} pairs that there are to repeat")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must name none twice")
        return self

    @field_validator("url")
    @classmethod
    def _is_a_place(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("https://", "http://")) or "#" in value or "?" in value:
            raise ValueError("url must begin with https:// or http:// and have neither ? nor #")
        return value if value.endswith("/") else f"{value}/"
