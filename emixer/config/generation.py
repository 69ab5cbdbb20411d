"""Settings of `emixer generate` and of the gallery."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from emixer.config.base import Section
from emixer.config.model import Condition


class GenerateConfig(Section):
    """A run's model -> a paired dataset on disk."""

    run: Path | None = Field(None, strict=False)
    """Run folder of the trained model, or one checkpoint folder in it."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run; `last` is taken where no `best` was measured."""
    out: Path | None = Field(None, strict=False)
    """Folder of the dataset."""
    num: int | None = Field(None, ge=1)
    """Pairs to generate. None: as many as a CSV plan lists, else 1000."""
    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Row i depends on this, on i and on its labels and conditions alone."""
    labels: tuple[str, ...] = Field((), strict=False)
    """Labels that every row has, by name. Empty: see plan."""
    plan: str = "train"
    """Where labels come from: `train` (the joint distribution of the training images), `balanced` (each label in turn,
    with the company it keeps in training), or a CSV file (a 0/1 column a label, perhaps sex, age, view and `count`),
    read in a circle."""
    sex: str | None = None
    """Of every row, F or M, where the model is conditioned on it (model.conditions). None: drawn as training images
    with the row's labels have it; so with age and view."""
    age: int | None = Field(None, ge=0, le=120)
    """Of every row [years]; its age group is what counts."""
    view: str | None = None
    """Of every row, as the training images have it, e.g. PA."""
    balance_by: tuple[Condition, ...] = Field((), strict=False)
    """Conditions whose values take turns, row by row; with `plan: balanced` for all labels of one value, then of the
    next."""
    batch_size: int = Field(64, ge=1, le=1024)
    """Pairs in one forward pass. Part of what decides a row's last bits, so it is recorded."""
    image_format: Literal["png", "jpeg"] = "png"
    """PNG is lossless; JPEG (quality 95) is smaller."""
    rows_per_file: int = Field(8192, ge=1)
    """Rows of one Parquet file, a multiple of rows_per_group."""
    rows_per_group: int = Field(512, ge=1)
    """Rows of a Parquet row group, a multiple of batch_size; its bytes must stay under 300 MB."""
    temperature: float = Field(0.7, ge=0)
    """Temperature of the words; 0 takes the likeliest word."""
    num_samplers: int | None = Field(None, ge=1)
    """Sampler actors. None: one a GPU, or as many as the CPUs carry."""
    cpus_per_sampler: int = Field(1, ge=1)
    """Threads of a sampler that runs on CPUs. Part of what decides a row's last bits, so it is recorded."""
    use_gpu: bool | None = None
    """None: where the cluster has GPUs. CPUs and GPUs draw different numbers, so a dataset is made on one kind."""


class GalleryConfig(Section):
    """One self-contained HTML page."""

    run: Path | None = Field(None, strict=False)
    """Run folder to show."""
    dataset: Path | None = Field(None, strict=False)
    """Generated dataset to show instead of the run, or beside it."""
    out: Path | None = Field(None, strict=False)
    """HTML file. Default: gallery.html in the folder of the run, or of the dataset."""
    pairs: int = Field(24, ge=1, le=500)
    """Generated pairs to show; of a run, each beside a real held-out one with the same labels."""
    real: bool = True
    """Whether to show real images and reports. A page with them falls under the terms of their collection."""
    swap_strips: int = Field(2, ge=0, le=20)
    """Strips of one noise under different labels."""
    swapped_labels: int = Field(5, ge=1, le=14)
    """Labels of such a strip, the most frequent ones first."""
    grids: int = Field(12, ge=0, le=100)
    """Sample grids of the run to show, spread evenly over its training."""
    checkpoint: Literal["best", "last"] = "best"
    """Checkpoint of the run that pairs are drawn from."""
    seed: int = Field(0, ge=0)
    """Seed of the generated pairs."""
