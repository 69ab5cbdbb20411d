"""Settings of `emixer generate` and of the gallery."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from emixer.config.base import Section


class GenerateConfig(Section):
    """A run's model -> a paired dataset on disk."""

    run: Path | None = Field(None, strict=False)
    """Run folder of the trained model."""
    checkpoint: Literal["best", "last"] = "best"
    """Which of the run's checkpoints to sample from."""
    out: Path | None = Field(None, strict=False)
    """Folder of the dataset."""
    num: int = Field(1000, ge=1)
    """Pairs to generate."""
    seed: int = Field(0, ge=0)
    """Row i depends on this, on i and on its labels alone."""
    labels: tuple[str, ...] = Field((), strict=False)
    """Fixed labels for every row, by name. Empty: see plan."""
    plan: str = "train"
    """`train` (joint label distribution of the training films), `balanced` (each label alike often), or a CSV file."""
    batch_size: int = Field(64, ge=1, le=1024)
    """Pairs in one forward pass. Part of what decides a row's last bits, so it is recorded."""
    image_format: Literal["png", "jpeg"] = "png"
    """How films are encoded; JPEG is smaller and lossy."""
    rows_per_file: int = Field(8192, ge=1)
    """Pairs in one Parquet file, and what a killed run loses at most per sampler."""
    rows_per_group: int = Field(512, ge=1)
    """Row group of the written Parquet; its bytes must stay under 300 MB."""
    temperature: float = Field(0.7, ge=0)
    """Temperature of the words; 0 takes the likeliest word."""
    num_samplers: int | None = Field(None, ge=1)
    """Sampler actors. None: one a GPU, or one a CPU pair."""
    use_gpu: bool | None = None
    """None: where the cluster has GPUs."""


class GalleryConfig(Section):
    """One self-contained HTML page."""

    run: Path | None = Field(None, strict=False)
    """Run folder to show."""
    dataset: Path | None = Field(None, strict=False)
    """Generated dataset to show instead of, or beside, the run."""
    out: Path | None = Field(None, strict=False)
    """HTML file; default: gallery.html in the run or dataset folder."""
    pairs: int = Field(24, ge=1, le=500)
    """Real and generated pairs to show."""
