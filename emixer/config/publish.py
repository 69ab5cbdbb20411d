"""Settings of `emixer publish`: a trained model as a folder that may be given to others."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from emixer.config.base import Section

REPOSITORY_NAME = r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}"
"""ORG/NAME, as the Hugging Face Hub has it."""


class PublishConfig(Section):
    """What leaves a run, and under which terms."""

    run: Path | None = Field(None, strict=False)
    """Run folder of the trained model, or a checkpoint folder in it."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run; falls back to `last` if the run has no `best`."""
    out: Path | None = Field(None, strict=False)
    """Folder to write the published model to."""
    license: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9.+-]*$")
    """Terms of the weights: a licence identifier of the Hugging Face Hub such as `cc-by-nc-4.0`, or `other`."""
    license_name: str | None = None
    """Name of those terms in words, if the licence is `other`."""
    min_patients: int = Field(5, ge=1)
    """Combinations of labels, sex, age and view that fewer train patients than this have are left out, since they may
    identify a patient."""
    min_token_count: int = Field(6, ge=1)
    """A vocabulary with words that occur less often than this in the training reports is refused: they may be names."""
    min_token_patients: int = Field(2, ge=1)
    """A vocabulary with words from the training reports of fewer patients than this is refused: a name may occur in all
    reports of one patient."""
    push: str | None = Field(None, pattern=f"^{REPOSITORY_NAME}$")
    """Repository ORG/NAME on the Hugging Face Hub to upload the folder to. Default: nothing leaves this machine."""
    private: bool = True
    """Whether the repository must be private: a new one is created private, an existing public one is refused."""

    @model_validator(mode="after")
    def _other_terms_have_a_name(self) -> "PublishConfig":
        if (self.license == "other") != (self.license_name is not None):
            raise ValueError(
                "license_name goes with license=other, and only with it: it says in words what the terms are, e.g. "
                "'PhysioNet Credentialed Health Data License 1.5.0'"
            )
        return self
