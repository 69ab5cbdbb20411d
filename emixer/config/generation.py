"""Settings of `emixer generate` and of the gallery."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from emixer.config.base import Section, absolute
from emixer.config.model import Condition


class GenerateConfig(Section):
    """From a trained model to a paired dataset on disk."""

    run: Path | None = Field(None, strict=False)
    """Run folder of the trained model, or a checkpoint folder in it."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run; falls back to `last` if the run has no `best`."""
    out: Path | None = Field(None, strict=False)
    """Output folder of the dataset."""
    num: int | None = Field(None, ge=1)
    """Pairs to generate. Default: as many as a CSV plan lists, else 1000."""
    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Row i depends only on the seed, on i, and on its labels and conditions."""
    labels: tuple[str, ...] = Field((), strict=False)
    """Labels of every row, by name. Empty: see plan."""
    plan: str = "train"
    """Source of labels: `train` (joint distribution of the training images), `balanced` (each label in turn, with the
    labels that co-occur with it in training), or a CSV file (one 0/1 column per label, optionally sex, age, view and
    `count`), repeated as needed."""
    sex: str | None = None
    """Sex in every row, F or M, if the model is conditioned on it (model.conditions). Default: sampled from training
    images with the row's labels; likewise age and view."""
    age: int | None = Field(None, ge=0, le=120)
    """Age in every row [years]; only its age group matters."""
    view: str | None = None
    """View in every row, named as in the training data, e.g. PA."""
    balance_by: tuple[Condition, ...] = Field((), strict=False)
    """Conditions whose values alternate row by row; with `plan: balanced`, once through all labels for one value, then
    for the next."""
    batch_size: int = Field(64, ge=1, le=1024)
    """Pairs in one forward pass. It affects a row's last bits, so it is recorded."""
    image_format: Literal["png", "jpeg"] = "png"
    """PNG is lossless; JPEG (quality 95) is smaller."""
    rows_per_file: int = Field(8192, ge=1)
    """Rows per Parquet file, a multiple of rows_per_group."""
    rows_per_group: int = Field(512, ge=1)
    """Rows per Parquet row group, a multiple of batch_size; a group must stay under 300 MB."""
    temperature: float = Field(0.7, ge=0)
    """Sampling temperature of the words, not of how many sentences there are; 0: the likeliest of both."""
    audit: Path | None = Field(None, strict=False)
    """Folder of the shards that the run was trained on: pairs that `emixer audit` would withhold are redrawn. Default:
    no screening. `audit.false_alarm`, `span_words` and `encoder` set the criteria."""
    redraws: int = Field(10, ge=0, le=100)
    """Maximum number of redraws per flagged row; if all are flagged, the command fails. Does not affect the rows."""
    num_samplers: int | None = Field(None, ge=1)
    """Sampler actors. Default: one per GPU, or as many as the CPUs allow."""
    cpus_per_sampler: int = Field(1, ge=1)
    """Threads per CPU sampler. It affects a row's last bits, so it is recorded."""
    use_gpu: bool | None = None
    """Whether to use GPUs. Default: if the cluster has any. CPUs and GPUs draw different numbers, so one dataset uses
    one kind."""

    @field_validator("plan")
    @classmethod
    def _home_is_found(cls, value: str) -> str:
        return str(absolute(Path(value))) if value.startswith("~") else value


class GalleryConfig(Section):
    """One self-contained HTML page."""

    run: Path | None = Field(None, strict=False)
    """Run folder to show."""
    dataset: Path | None = Field(None, strict=False)
    """Generated dataset to show instead of, or in addition to, the run."""
    out: Path | None = Field(None, strict=False)
    """HTML file. Default: gallery.html in the folder of the run or dataset."""
    pairs: int = Field(24, ge=1, le=500)
    """Generated pairs to show; for a run, each next to a real held-out pair with the same labels."""
    real: bool = True
    """Whether to show real images and reports. A page with them is subject to the terms of their collection."""
    swap_strips: int = Field(2, ge=0, le=20)
    """Strips that show the same noise vector under different labels."""
    swapped_labels: int = Field(5, ge=1, le=14)
    """Labels in such a strip, most frequent first."""
    grids: int = Field(12, ge=0, le=100)
    """Sample grids of the run to show, evenly spaced over training."""
    checkpoint: Literal["best", "last"] = "best"
    """Checkpoint of the run that generates the pairs."""
    seed: int = Field(0, ge=0)
    """Seed of the generated pairs."""
