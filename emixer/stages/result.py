"""What every stage returns: a summary that prints, and the same for programs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class StageResult(ABC):
    """What a stage came to. `str()` is the summary for people; the rest is what `--json` gives."""

    @property
    def nothing_to_do(self) -> bool:
        """Whether everything was there already. False where a stage always works anew."""
        return False

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, Path | Sequence[Path]]:
        """What lies on disk now, by what it is."""

    @property
    @abstractmethod
    def figures(self) -> Mapping[str, Any]:
        """The figures of the summary, as plain values."""

    @abstractmethod
    def __str__(self) -> str: ...
