"""Settings of `emixer tune`: what is searched, how, and how much of it."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from emixer.config.base import Section

_RELATIVE_SQLITE = re.compile(r"^(sqlite(?:\+\w+)?:///)(?!/|:memory:)(.+)$")
_PASSWORD = re.compile(r"(://[^/@:]*):[^@]*(?=@)")

TuneMetric = Literal["fid", "word_cross_entropy", "label_auc", "report_f1", "pair_agreement"]


class TuneConfig(Section):
    """A search over any settings: each trial is a run of `emixer train`, a sampler of Optuna proposes their values, Ray
    Tune runs several at once."""

    study: Path | None = Field(None, strict=False)
    """Folder of the search: the study, a run folder a trial, tables and plots. An existing one is gone on with."""
    resume: bool = False
    """Whether only to go on: then it is an error if there is no study yet."""
    space: tuple[str, ...] = Field(
        (
            "optim.lr_generator log 1e-5 5e-4",
            "optim.lr_discriminator log 4e-5 2e-3",
            "loss.alpha float 0 1",
        ),
        strict=False,
    )
    """What is searched: `KEY float LOW HIGH`, `KEY log LOW HIGH`, `KEY int LOW HIGH` or `KEY choice A B ...`; KEY is
    any setting of this page. A factor of ten around the paper's learning rates, and the weight that it searches."""
    num_samples: int = Field(20, ge=1)
    """Trials in all, those of earlier calls included, those that failed not."""
    budget_images: int = Field(1_000_000, ge=1)
    """Images that a trial trains on if it is not stopped early; `train.images` of each."""
    metrics: tuple[TuneMetric, ...] = Field(("fid",), strict=False)
    """What the validation pass measures and the search improves: FID and word cross-entropy downwards, others upwards.
    Two or more: the best trade-offs between them are sought, and nothing is stopped early."""
    sampler: Literal["tpe", "random", "gp"] = "tpe"
    """Who proposes values: Optuna's tree-structured Parzen estimator, chance, or a Gaussian process."""
    startup_trials: int = Field(8, ge=1)
    """Trials that are drawn by chance before the sampler has something to learn from."""
    pruner: Literal["asha", "median", "none"] = "asha"
    """What stops poor trials at a validation pass: asynchronous successive halving, being worse than the median of the
    others at the same number of images, or nothing."""
    reduction: int = Field(3, ge=2)
    """Of successive halving: one of so many goes on at each rung. Of median: so many trials finish before one is
    stopped."""
    first_rung: int = Field(1, ge=1)
    """The validation pass at which a trial is stopped at the earliest."""
    max_concurrent: int | None = Field(None, ge=1)
    """Trials at once. None: as many as the cluster has room for, as far as it may grow."""
    storage: str | None = None
    """URL of Optuna's storage, e.g. `postgresql://...` or `sqlite:///study.db`. None: a journal file in the folder. A
    password in it is not written down: leave it to ~/.pgpass or the like where a job has to know it."""
    max_failures: int = Field(2, ge=0)
    """How often a trial whose processes died is started again, from its last checkpoint."""

    @model_validator(mode="after")
    def _consistent(self) -> "TuneConfig":
        if not self.space:
            raise ValueError("space is empty: there is nothing to search")
        if not self.metrics:
            raise ValueError("metrics is empty: name one, e.g. fid")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metrics names one twice")
        return self

    @field_validator("storage", mode="after")
    @classmethod
    def _sqlite_paths_are_absolute(cls, value: str | None) -> str | None:
        relative = _RELATIVE_SQLITE.match(value or "")
        return value if relative is None else f"{relative[1]}{Path(relative[2]).absolute()}"

    @property
    def written_storage(self) -> str | None:
        """The URL without its password, for files and messages."""
        return None if self.storage is None else _PASSWORD.sub(r"\1", self.storage)
