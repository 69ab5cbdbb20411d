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
    """Run folder of the trained model, or one checkpoint folder in it."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run; `last` is taken where no `best` was measured."""
    out: Path | None = Field(None, strict=False)
    """Folder to write the published model to."""
    license: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9.+-]*$")
    """Terms of the weights: a licence identifier of the Hugging Face Hub such as `cc-by-nc-4.0`, or `other`."""
    license_name: str | None = None
    """Name of those terms in words, where the licence is `other`."""
    min_patients: int = Field(5, ge=1)
    """Combinations of labels, sex, age and view that fewer patients of the train split have are left out: they may tell
    a patient."""
    min_token_count: int = Field(6, ge=1)
    """A vocabulary with words that occur less often in the training reports is refused: they may be names."""
    min_token_patients: int = Field(2, ge=1)
    """So is one with words that stand in the training reports of fewer patients: a name may stand in all of one's."""
    push: str | None = Field(None, pattern=f"^{REPOSITORY_NAME}$")
    """Repository ORG/NAME of the Hugging Face Hub to upload the folder to. None: nothing leaves this machine."""
    private: bool = True
    """Whether the repository must be private: a new one is made so, a public one that is there already is refused."""

    @model_validator(mode="after")
    def _other_terms_have_a_name(self) -> "PublishConfig":
        if (self.license == "other") != (self.license_name is not None):
            raise ValueError(
                "license_name goes with license=other, and only with it: it says in words what the terms are, e.g. "
                "'PhysioNet Credentialed Health Data License 1.5.0'"
            )
        return self
