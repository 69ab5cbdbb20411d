"""Settings of `emixer audit`: how much of the training data a generated dataset gives away."""

from pathlib import Path

from pydantic import Field

from emixer.config.base import Section
from emixer.config.model import ChestEncoderConfig


class AuditConfig(Section):
    """A generated dataset beside the images and reports that its model was trained on."""

    dataset: Path | None = Field(None, strict=False)
    """Folder of a finished dataset, written by `emixer generate`."""
    run: Path | None = Field(None, strict=False)
    """Run folder of the model that made it: its image discriminator is asked whom it knows, and its encoder measures
    where `audit.encoder` names none. None: both are left out."""
    encoder: ChestEncoderConfig | None = None
    """The DenseNet whose features images are compared by; its `weights` must be set. None: that of
    `validation.encoder`, else of the run, else a small one of random weights."""
    false_alarm: float = Field(0.01, gt=0, le=0.1)
    """Share of held-out images and reports that would be flagged as well, shared out over pixels, features and
    reports. The smaller it is, the more held-out images are needed: 3 / false_alarm."""
    span_words: int = Field(6, ge=3, le=30)
    """Length of the word sequences by which reports are compared."""
    duplicate_rows: int = Field(10_000, ge=100)
    """Most rows among which near-duplicates inside the dataset are looked for, and as many training images."""
    pairs: int = Field(10, ge=1, le=100)
    """Closest pairs on the page."""
    show_real: bool = False
    """Whether the page shows the training images and reports of these pairs. It then falls under the terms of their
    collection."""
    resamples: int = Field(500, ge=20)
    """Of the subjects, for 95 % intervals."""
    measured: Path | None = Field(None, strict=False)
    """Folder where what was measured of images is kept by content, for other datasets beside the same real images.
    None: `measured` in `out`."""
    out: Path | None = Field(None, strict=False)
    """Folder of the results. None: `audit` in the folder of the dataset."""
    cpus_per_task: int = Field(1, ge=1)
    """CPUs that Ray reserves for a task, and its threads."""
    use_gpu: bool | None = None
    """None: where the cluster has one."""
