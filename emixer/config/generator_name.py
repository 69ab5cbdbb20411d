"""Names of generators in experiments: `emixer`; `emixer-30`, trained with 30 % of the labels; `emixer.2`, its third
training; `emixer.2-balanced`, other pairs of the same model; `emixer@R100.4`, trained on 100 real pairs alone, those of
draw 4."""

import re
from dataclasses import dataclass, replace

BALANCED = "balanced"
"""Variant whose pairs have each finding equally often; the model is the same."""
_NAME = re.compile(
    rf"(jointgan|cogan|smgan|emixer)(?:\.(\d{{1,3}}))?(?:@R([1-9]\d*)(?:\.(\d+))?)?(?:-({BALANCED}|30|50))?"
)
_LIMITED = "emixer"
"""Method that is also trained with part of the labels."""


@dataclass(frozen=True)
class GeneratorName:
    """A generator: the method, which of its trainings, and a variant."""

    method: str
    training: int = 0
    """Which of the trainings with different seeds, from 0."""
    variant: str = ""
    """Percentage of the labels that it was trained with, or `balanced`; empty for neither."""
    real: int = 0
    """If not 0: the number of real pairs that it is trained on, instead of the whole train split."""
    draw: int = 0
    """Which random choice of those pairs; 0: the first ones of the split."""

    @classmethod
    def parse(cls, text: str) -> "GeneratorName":
        """Read a name. Raises ValueError with the forms that names have."""
        found = _NAME.fullmatch(text)
        if found is None or (found[1] != _LIMITED and found[5] not in (None, BALANCED)):
            raise ValueError(
                f"{text!r} is no generator: give jointgan, cogan, smgan, emixer, emixer-30 or emixer-50, and for "
                "further trainings emixer.1, emixer.2, emixer.1-30, ..."
            )
        return cls(found[1], int(found[2] or 0), found[5] or "", int(found[3] or 0), int(found[4] or 0))

    def __str__(self) -> str:
        """The name, without the number of the first training."""
        number = f".{self.training}" if self.training else ""
        pairs = f"@R{self.real}" + (f".{self.draw}" if self.draw else "") if self.real else ""
        return f"{self.method}{number}{pairs}" + (f"-{self.variant}" if self.variant else "")

    @property
    def model(self) -> "GeneratorName":
        """The model behind it: one model may have several datasets."""
        return replace(self, variant="") if self.variant == BALANCED else self

    @property
    def labelled_fraction(self) -> float | None:
        """Fraction of the training labels that it is trained with; None if its name does not say."""
        return int(self.variant) / 100 if self.variant.isdigit() else None
