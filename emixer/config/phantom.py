"""Settings of `emixer phantom`."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from emixer.config.base import Section


class PhantomConfig(Section):
    """A procedural collection in the layout of a published one."""

    out: Path | None = Field(None, strict=False)
    """Output folder of the collection."""
    layout: Literal[
        "mimic-cxr-jpg", "mimic-cxr", "nih-cxr14", "chexpert", "padchest", "vindr-cxr", "rsna-pneumonia", "brax"
    ] = "mimic-cxr-jpg"
    """Published collection whose files and tables are imitated; those with DICOM images need the extra `dicom`."""
    studies: int = Field(1000, ge=1, le=10_000_000)
    """Number of studies (a study has one report and one to three images)."""
    height_px: int = Field(512, ge=64, le=4096)
    """Height of an image before random collimation [px]; real ones have about 3000."""
    validate_fraction: float = Field(0.1, ge=0, le=0.4)
    """Share of the patients in the validate split (0.008 in MIMIC-CXR, too few for a small collection)."""
    test_fraction: float = Field(0.1, ge=0, le=0.4)
    """Share of the patients in the test split (0.014 in MIMIC-CXR)."""
    broken_files: int = Field(0, ge=0)
    """Studies to corrupt on purpose (image truncated, empty, 16-bit, report missing, ...); only in MIMIC-CXR layouts.
    """
    duplicate_fraction: float = Field(0.01, ge=0, le=0.5)
    """Share of images stored a second time under another id, as happens in the real collection."""
    studies_per_task: int = Field(64, ge=1)
    """Studies written per Ray task; affects only speed, not the output."""
