"""A reader's rating of a pair."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["real", "synthetic"]
KINDS: tuple[Kind, Kind] = ("real", "synthetic")
SCALES = ("image", "report", "agreement")
"""Aspects scored from 1 to 10; the paper's readers gave one such score per pair."""
LOWEST, HIGHEST = 1, 10
MAX_COMMENT = 2000


class Rating(BaseModel):
    """Scores, a guess and an optional comment. Nothing is coerced: "7", 7.0 and true are not scores."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: int = Field(ge=LOWEST, le=HIGHEST)
    report: int = Field(ge=LOWEST, le=HIGHEST)
    agreement: int = Field(ge=LOWEST, le=HIGHEST)
    """Agreement of the report with the image."""
    guess: Kind
    comment: str = Field("", max_length=MAX_COMMENT)
