"""Settings of `emixer tune`: what is searched, how, and how much of it."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from emixer.config.base import Section

_RELATIVE_SQLITE = re.compile(r"^(sqlite(?:\+\w+)?:///)(?!/|:memory:)(.+)$")
_PASSWORD = re.compile(r"(://[^/@:]*):[^@]*(?=@)")
_PASSWORD_ARGUMENT = re.compile(r"(?:(?<=[?&])(?:password|passwd)=[^&]*&|[?&](?:password|passwd)=[^&]*$)")

TuneMetric = Literal["fid", "word_cross_entropy", "label_auc", "report_f1", "pair_agreement"]


class TuneConfig(Section):
    """Hyperparameter search over settings of training: each trial is a run of `emixer train`, an Optuna sampler
    proposes the values, Ray Tune runs several trials at once."""

    study: Path | None = Field(None, strict=False)
    """Folder of the search: the study, a run folder per trial, tables and plots. An existing search is resumed."""
    resume: bool = False
    """Only resume: it is an error if there is no study yet."""
    space: tuple[str, ...] = Field(
        (
            "optim.lr_generator log 1e-5 5e-4",
            "optim.lr_discriminator log 4e-5 2e-3",
            "loss.alpha float 0 1",
        ),
        strict=False,
    )
    """Search space: `KEY float LOW HIGH`, `KEY log LOW HIGH`, `KEY int LOW HIGH` or `KEY choice A B ...`; KEY is a
    setting of the sections data, model, loss, optim or train. Default: a factor of ten around the paper's learning
    rates, and the weight alpha, for which it gives no value."""
    num_samples: int = Field(20, ge=1)
    """Total number of trials, including those of earlier calls and excluding failed ones."""
    budget_images: int = Field(1_000_000, ge=1)
    """Images per trial unless it is stopped early; `train.images` of each."""
    metrics: tuple[TuneMetric, ...] = Field(("fid",), strict=False)
    """Validation metrics to optimise: FID and word cross-entropy are minimised, the others maximised. Two or more:
    multi-objective search for the best trade-offs, without early stopping."""
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    """Sampler: Optuna's tree-structured Parzen estimator, random search, or a Gaussian process."""
    startup_trials: int = Field(8, ge=1)
    """Random trials before the sampler starts to learn."""
    pruner: Literal["asha", "median", "none"] = "asha"
    """Early stopping of poor trials at a validation pass: asynchronous successive halving, worse than the median of the
    other trials at the same number of images, or none."""
    reduction: int = Field(3, ge=2)
    """Successive halving: one in this many trials continues at each rung. Median: this many trials finish before any is
    stopped."""
    first_rung: int = Field(1, ge=1)
    """Earliest validation pass at which a trial may be stopped."""
    max_concurrent: int | None = Field(None, ge=1)
    """Concurrent trials. Default: as many as the cluster has room for at its maximum size."""
    storage: str | None = None
    """URL of the Optuna storage, e.g. `postgresql://...` or `sqlite:///study.db`. Default: a journal file in the
    folder. A password in it is not saved: use ~/.pgpass or similar if a job needs it."""
    max_failures: int = Field(2, ge=0)
    """How many times a trial whose processes died is restarted from its last checkpoint."""

    @model_validator(mode="after")
    def _consistent(self) -> "TuneConfig":
        if not self.space:
            raise ValueError("space is empty: there is nothing to search")
        if not self.metrics:
            raise ValueError("metrics is empty: give at least one, e.g. fid")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metrics has duplicates")
        return self

    @field_validator("storage", mode="after")
    @classmethod
    def _sqlite_paths_are_absolute(cls, value: str | None) -> str | None:
        relative = _RELATIVE_SQLITE.match(value or "")
        return value if relative is None else f"{relative[1]}{Path(relative[2]).absolute()}"

    @property
    def written_storage(self) -> str | None:
        """The URL without its password, for files and messages."""
        if self.storage is None:
            return None
        return _PASSWORD_ARGUMENT.sub("", _PASSWORD.sub(r"\1", self.storage))
