"""Cells: the independent pieces that tables are made of, each remembered by what decides it.

A cell trains one downstream model on one mixture of pairs with one seed, or measures one dataset. Its key is a hash of
everything that its figures depend on: settings, the data's own digests and the version of the code. The same cell in
two tables is computed once; a cell whose inputs have changed is another cell.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emixer import files
from emixer._version import __version__
from emixer.config.experiment import DownstreamConfig
from emixer.errors import RunFolderError

Task = Literal["images", "pairs", "reports", "classes", "distance"]
"""images: labels from images; pairs: labels from image and report; reports: reports from images; classes: table 5;
distance: generated images beside real ones."""

CODE_VERSION = 1
"""Goes up when the same inputs would give other figures."""
_TASK_VERSIONS: Mapping[Task, int] = {"classes": 2, "reports": 2}
"""Of tasks whose figures alone have changed; 1 is not told. classes 2: AUC orders images however sure the model is.
reports 2: the encoder of a report generator is taught labels beside the words."""
FOLDER_VERSION = 1
_ABOUT, _CELLS = "experiment.json", "cells"
_LATER = ("chosen_from", "pretrains")
_UNUSED: Mapping[Task, tuple[str, ...]] = {
    "images": ("report_decoder", "joint_hidden"),
    "pairs": ("report_decoder",),
    "reports": ("network", "joint_hidden", "uncertain", "unmentioned"),
    "classes": ("report_decoder", "joint_hidden"),
}
"""Settings of downstream models that a task's figures do not depend on."""


@dataclass(frozen=True)
class Mix:
    """What a downstream model is trained on."""

    real: int
    """Real pairs."""
    synthetic: int = 0
    """Generated pairs, the first of their dataset."""
    generator: str | None = None
    """Whose, e.g. `emixer` or `emixer-30`."""
    chosen_from: int = 0
    """If not 0: out of the first so many generated pairs, those on which a judge agrees with their labels most."""
    pretrains: bool = False
    """Whether the generated pairs are learned from first and the real ones afterwards, instead of both at once."""


@dataclass(frozen=True)
class Cell:
    """One piece of work."""

    task: Task
    mix: Mix
    seed: int

    @property
    def name(self) -> str:
        """For people, e.g. `images R1000 + S500 emixer, seed 0`."""
        mix = self.mix
        real, synthetic = f"R{mix.real}", f"S{mix.synthetic} {mix.generator}"
        synthetic += f" chosen from S{mix.chosen_from}" if mix.chosen_from else ""
        if mix.pretrains:
            return f"{self.task} {synthetic}, then {real}, seed {self.seed}"
        parts = [text for text, there in ((real, mix.real), (synthetic, mix.synthetic)) if there]
        return f"{self.task} {' + '.join(parts) or 'no pretraining'}, seed {self.seed}"

    def downstream_settings(self, settings: DownstreamConfig) -> dict[str, Any]:
        """Those that the cell's figures depend on, as plain values."""
        return settings.model_dump(mode="json", exclude=set(_UNUSED[self.task]))

    def key(self, inputs: Mapping[str, Any]) -> str:
        """Of the cell with these inputs: settings and digests as plain values."""
        told = json.dumps(self.decided_by(inputs), sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()[:20]

    def decided_by(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """All that is in the key."""
        cell = asdict(self)
        # ways to use pairs that came later: without them a cell has the key that it always had
        cell["mix"] = {name: value for name, value in cell["mix"].items() if value or name not in _LATER}
        told = {"version": CODE_VERSION, "cell": cell, "inputs": dict(inputs)}
        return told | ({"task_version": version} if (version := _TASK_VERSIONS.get(self.task, 1)) > 1 else {})

    def about(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in the file of its result, for people and for plans."""
        told = json.loads(json.dumps(self.decided_by(inputs), default=str))
        return {"name": self.name, "task": self.task, "package_version": __version__, "decided_by": told}


@dataclass(frozen=True)
class CellResult:
    """What a cell came to."""

    figures: dict[str, float]
    """NaN where a figure is not defined."""
    resampled: dict[str, NDArray[np.float64]]
    """The same figures on resamples of the test subjects (R,); the same resamples in every cell of a test set."""
    facts: dict[str, Any]
    """How it came about: pairs seen, seconds, test rows."""

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Writes JSON whole or not at all. about: what it is a result of."""
        files.write_json(path, {
            "about": dict(about),
            "figures": {name: _finite(value) for name, value in self.figures.items()},
            "resampled": {name: [_finite(v) for v in values] for name, values in self.resampled.items()},
            "facts": self.facts,
        })  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "CellResult | None":
        """None where there is none, or what is there cannot be read: then it is computed again."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            figures = {name: _number(value) for name, value in content["figures"].items()}
            resampled = {name: np.array([_number(v) for v in vs]) for name, vs in content["resampled"].items()}
            return cls(figures, resampled, dict(content["facts"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass(frozen=True)
class ResultsFolder:
    """The folder of an experiment: results of cells by key, and beside them generators, datasets and tables."""

    path: Path

    @classmethod
    def open(cls, path: Path, trained_on: str) -> "ResultsFolder":
        """Makes the folder, or opens one of this version. Raises RunFolderError when it is something else.

        trained_on: digest of the images that its generators learn from.
        """
        cls.check(path, trained_on)
        if not (path / _ABOUT).exists():
            files.write_json(path / _ABOUT, {"experiment_version": FOLDER_VERSION, "trained_on": trained_on})
        return cls(path)

    @staticmethod
    def check(path: Path, trained_on: str) -> None:
        """Raises RunFolderError when there is something else in `path`."""
        about = path / _ABOUT
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file. An experiment needs a folder: choose another name.")
        if not about.exists():
            if path.exists() and any(not files.is_bookkeeping(p) for p in path.iterdir()):
                raise RunFolderError(
                    f"{path} is not empty and not an experiment (no {_ABOUT}). Choose a new folder, or empty this one."
                )
            return
        try:
            found = json.loads(about.read_text(encoding="utf-8"))
            version, before = found["experiment_version"], found.get("trained_on", trained_on)  # not noted at first
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(f"{about} cannot be read ({type(error).__name__}). Choose a new folder.") from error
        if version != FOLDER_VERSION:
            raise RunFolderError(
                f"{path} has results of experiment version {version}; this emixer has {FOLDER_VERSION}. Its tables "
                "and results are left unchanged: choose a new folder."
            )
        if before != trained_on:
            raise RunFolderError(
                f"The generators in {path} use other shards than those given: train or validate images differ. Give "
                "the same shards, or choose a new folder."
            )

    def result_path(self, key: str) -> Path:
        """Where a cell's result stands."""
        return self.path / _CELLS / f"{key}.json"

    def result_files(self) -> list[Path]:
        """Of all results, whatever table they are of."""
        return sorted((self.path / _CELLS).glob("*.json"))

    def result(self, key: str) -> CellResult | None:
        """A cell's result, if it is done."""
        return CellResult.load(self.result_path(key))

    def judgement_path(self, key: str) -> Path:
        """Where a judge's opinion of a dataset's pairs stands."""
        return self.judgements / f"{key}.npy"

    def failure_path(self, key: str) -> Path:
        """Where the traceback of a cell that failed stands, until it succeeds."""
        return self.path / "failures" / f"{key}.txt"

    def generator(self, name: str) -> Path:
        """Folder of a generator that is trained here: `run` and `dataset`."""
        return self.path / "generators" / name

    @property
    def judgements(self) -> Path:
        """Folder of a judge's opinions."""
        return self.path / "judgements"

    @property
    def tables(self) -> Path:
        """Folder of the written tables."""
        return self.path / "tables"

    @property
    def decoded(self) -> Path:
        """Folder of decoded datasets; may be deleted at any time."""
        return self.path / "decoded"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
