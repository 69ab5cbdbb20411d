"""Settings of `emixer audit`: how much of the training data a generated dataset leaks."""

from pathlib import Path

from pydantic import Field

from emixer.config.base import Section
from emixer.config.model import ChestEncoderConfig


class AuditConfig(Section):
    """Comparison of a generated dataset with the images and reports that its model was trained on."""

    dataset: Path | None = Field(None, strict=False)
    """Folder of a finished dataset, written by `emixer generate`."""
    run: Path | None = Field(None, strict=False)
    """Run folder of the model that generated it: its image discriminator is used for a membership test, and its encoder
    for features if `audit.encoder` is not set. Default: neither."""
    encoder: ChestEncoderConfig | None = None
    """DenseNet whose features are used to compare images; its `weights` must be set. Default: that of
    `validation.encoder`, else that of the run, else a small one with random weights."""
    false_alarm: float = Field(0.01, gt=0, le=0.1)
    """Share of held-out images and reports that may be flagged (false alarms), divided between pixels, features and
    reports. Needs at least 3 / false_alarm held-out images."""
    span_words: int = Field(6, ge=3, le=30)
    """Length of the word sequences used to compare reports."""
    duplicate_rows: int = Field(10_000, ge=100)
    """Maximum number of rows searched for near-duplicates within the dataset, and of training images likewise."""
    pairs: int = Field(10, ge=1, le=100)
    """Closest pairs shown on the page."""
    show_real: bool = False
    """Whether the page shows the training images and reports of these pairs. It is then subject to the terms of their
    collection."""
    resamples: int = Field(500, ge=20)
    """Resamples of the subjects for 95 % confidence intervals."""
    measured: Path | None = Field(None, strict=False)
    """Folder that caches image measurements by content, for reuse with other datasets and the same real images. It
    holds small versions of real images: never share it; inside a dataset it is refused. Default: `audit/measured` in
    the run folder, if one is given, else `SHARDS-measured` beside the shards."""
    out: Path | None = Field(None, strict=False)
    """Output folder. Default: `audit` in the dataset's folder."""
    cpus_per_task: int = Field(1, ge=1)
    """CPUs that Ray reserves for a task, and its number of threads."""
    use_gpu: bool | None = None
    """Whether to use GPUs. Default: if the cluster has any."""
