"""Requests that a visitor may make."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emixer.web.requests import RefusedError

MAX_PAIRS = 16
STEPS = (5, 7)
MAX_SEED = 2**53 - 1
"""Largest integer that a browser represents exactly."""
MAX_TEMPERATURE = 5.0
_MAX_LABELS = 256


class DrawRequest(BaseModel):
    """Pairs with given labels; or each beside one with a label swapped; or an interpolation between two label sets."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["pairs", "swap", "interpolation"] = "pairs"
    labels: list[str] = Field(default_factory=list, max_length=_MAX_LABELS)
    """Labels that are present; the others are absent."""
    num: int = Field(4, ge=1)
    """Number of pairs; for an interpolation, see `steps`."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    temperature: float = Field(0.7, ge=0, le=MAX_TEMPERATURE)
    """Sampling temperature of the words."""
    sex: str | None = None
    age: str | None = None
    view: str | None = None
    swapped: str | None = None
    """For a swap: the label that is present in one pair and absent in the other."""
    to_labels: list[str] = Field(default_factory=list, max_length=_MAX_LABELS)
    """For an interpolation: labels at the other end."""
    steps: int = Field(STEPS[0], ge=STEPS[0], le=STEPS[1])
    """For an interpolation: number of pairs, both ends included."""


def read_draw_request(body: bytes) -> DrawRequest:
    """Parse a request from JSON. Raises RefusedError that names the wrong value and what is allowed."""
    try:
        wanted = DrawRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise RefusedError(422, f"This cannot be drawn: {where}: {first['msg']}.") from error
    if wanted.num > MAX_PAIRS:
        raise RefusedError(
            413,
            f"{wanted.num:,} pairs are more than this page draws at once. Ask for at most {MAX_PAIRS}; "
            "`emixer generate` makes any number.",
        )
    if wanted.kind == "swap" and wanted.swapped is None:
        raise RefusedError(422, "Choose the label that is to be swapped.")
    return wanted
