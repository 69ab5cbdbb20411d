"""Settings of `emixer phantom`."""

from pathlib import Path

from pydantic import Field

from emixer.config.base import Section


class PhantomConfig(Section):
    """A procedural collection in the MIMIC-CXR-JPG layout."""

    out: Path | None = Field(None, strict=False)
    """Folder to write the collection to."""
    studies: int = Field(1000, ge=1)
    """Number of studies (a study has one report and one to three films)."""
    height_px: int = Field(512, ge=64, le=4096)
    """Height of a film before collimation varies it; the real ones have about 3000."""
    broken_files: int = Field(0, ge=0)
    """How many film files to damage on purpose (truncated, empty, not an image, 16-bit, RGB, ...)."""
    duplicate_fraction: float = Field(0.01, ge=0, le=0.5)
    """Share of films stored a second time under another id, as happens in the real collection."""
    studies_per_task: int = Field(64, ge=1)
    """Studies that one Ray task writes; changes the speed only, never a byte."""
