"""Cells: the independent units that tables are made of, each stored under a key of its inputs.

A cell trains one downstream model on one mixture of pairs with one seed, or measures one dataset. Its key is a hash of
everything that its figures depend on: settings, data digests and the version of the code. The same cell in two tables
is computed once; a cell whose inputs have changed is another cell.
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
"""Incremented when the same inputs would give other figures."""
_TASK_VERSIONS: Mapping[Task, int] = {"classes": 2, "reports": 3}
"""Versions of tasks of which only the figures have changed; 1 is not stored. classes 2: AUC ranks images regardless of
the model's confidence. reports 3: the encoder of a report generator is also trained on labels, which do not
select its weights."""
FOLDER_VERSION = 1
_ABOUT, _CELLS, _GENERATORS = "experiment.json", "cells", "generators"
_LATER = ("chosen_from", "pretrains", "draw")
_UNUSED: Mapping[Task, tuple[str, ...]] = {
    "images": ("report_decoder", "joint_hidden"),
    "pairs": ("report_decoder",),
    "reports": ("network", "joint_hidden"),
    "classes": ("report_decoder", "joint_hidden"),
}
"""Settings of downstream models that do not affect a task's figures. Policies for labels affect all: a report
generator's encoder is trained on labels, too."""


@dataclass(frozen=True)
class Mix:
    """Training data of a downstream model."""

    real: int
    """Real pairs."""
    synthetic: int = 0
    """Generated pairs, the first of their dataset."""
    generator: str | None = None
    """Their generator, e.g. `emixer`, `emixer.1` or `emixer-30`."""
    chosen_from: int = 0
    """If not 0: select pairs, by a judge's agreement with their labels, from this many, the first of the dataset."""
    pretrains: bool = False
    """Whether to train on the generated pairs first and on the real ones afterwards, instead of on both at once."""
    draw: int = 0
    """Which random choice of real pairs; 0: the first ones of the split."""

    @property
    def name(self) -> str:
        """Readable name, e.g. `R1000 + S500 emixer`."""
        real, synthetic = f"R{self.real}", f"S{self.synthetic} {self.generator}"
        synthetic += f" chosen from S{self.chosen_from}" if self.chosen_from else ""
        if self.pretrains:
            return f"{synthetic}, then {real}"
        parts = [text for text, there in ((real, self.real), (synthetic, self.synthetic)) if there]
        return " + ".join(parts) or "no pretraining"


@dataclass(frozen=True)
class Cell:
    """One unit of work."""

    task: Task
    mix: Mix
    seed: int

    @property
    def name(self) -> str:
        """Readable name, e.g. `images R1000 + S500 emixer, seed 0`."""
        return f"{self.task} {self.mix.name}, seed {self.seed}"

    def downstream_settings(self, settings: DownstreamConfig) -> dict[str, Any]:
        """Settings that the cell's figures depend on, as plain values."""
        return settings.model_dump(mode="json", exclude=set(_UNUSED[self.task]))

    def key(self, inputs: Mapping[str, Any]) -> str:
        """Key of the cell with these inputs: settings and digests as plain values."""
        told = json.dumps(self.decided_by(inputs), sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()[:20]

    def decided_by(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the key is a hash of."""
        cell = asdict(self)
        # fields added later are omitted if unused, so that a cell keeps its original key
        cell["mix"] = {name: value for name, value in cell["mix"].items() if value or name not in _LATER}
        told = {"version": CODE_VERSION, "cell": cell, "inputs": dict(inputs)}
        return told | ({"task_version": version} if (version := _TASK_VERSIONS.get(self.task, 1)) > 1 else {})

    def about(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Description stored with its result, for people and for plans."""
        told = json.loads(json.dumps(self.decided_by(inputs), default=str))
        return {"name": self.name, "task": self.task, "package_version": __version__, "decided_by": told}


@dataclass(frozen=True)
class CellResult:
    """Result of a cell."""

    figures: dict[str, float]
    """Figures by name; NaN where undefined."""
    resampled: dict[str, NDArray[np.float64]]
    """The same figures on resamples of the test subjects (R,); the same resamples in every cell of a test set."""
    facts: dict[str, Any]
    """Facts of the computation: pairs seen, seconds, test rows."""

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write JSON atomically. about: description of the cell."""
        files.write_json(path, {
            "about": dict(about),
            "figures": {name: _finite(value) for name, value in self.figures.items()},
            "resampled": {name: [_finite(v) for v in values] for name, values in self.resampled.items()},
            "facts": self.facts,
        })  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "CellResult | None":
        """Read a result; None if it is missing or unreadable, so that it is computed again."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            figures = {name: _number(value) for name, value in content["figures"].items()}
            resampled = {name: np.array([_number(v) for v in vs]) for name, vs in content["resampled"].items()}
            return cls(figures, resampled, dict(content["facts"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


@dataclass(frozen=True)
class ResultsFolder:
    """Folder of an experiment: results of cells by key, generators, datasets and tables."""

    path: Path

    @classmethod
    def open(cls, path: Path, trained_on: str) -> "ResultsFolder":
        """Create the folder, or open one of this version. Raises RunFolderError if it is something else.

        trained_on: digest of the images that its generators are trained on.
        """
        cls.check(path, trained_on)
        if not (path / _ABOUT).exists():
            files.write_json(path / _ABOUT, {"experiment_version": FOLDER_VERSION, "trained_on": trained_on})
        return cls(path)

    @staticmethod
    def check(path: Path, trained_on: str) -> None:
        """Raise RunFolderError if `path` holds something else. Pairs made before may be in their place in it."""
        about = path / _ABOUT
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file. An experiment needs a folder: choose another name.")
        if not about.exists():
            if path.exists() and any(not files.is_bookkeeping(p) and p.name != _GENERATORS for p in path.iterdir()):
                raise RunFolderError(f"{path} is not empty and not an experiment (no {_ABOUT}). Choose a new folder.")
            return
        try:
            found = json.loads(about.read_text(encoding="utf-8"))
            version, before = found["experiment_version"], found.get("trained_on", trained_on)  # absent at first
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
        """File of a cell's result."""
        return self.path / _CELLS / f"{key}.json"

    def result_files(self) -> list[Path]:
        """Files of all results, of any table."""
        return sorted((self.path / _CELLS).glob("*.json"))

    def result(self, key: str) -> CellResult | None:
        """Result of a cell; None if there is none."""
        return CellResult.load(self.result_path(key))

    def judgement_path(self, key: str) -> Path:
        """File of a judge's scores for the pairs of a dataset."""
        return self.judgements / f"{key}.npy"

    def failure_path(self, key: str) -> Path:
        """File of the traceback of a failed cell, until it succeeds."""
        return self.path / "failures" / f"{key}.txt"

    def generator(self, name: str) -> Path:
        """Folder of a generator trained here, with `run` and `dataset`."""
        return self.path / _GENERATORS / name

    def real_pairs(self, num: int, draw: int) -> Path:
        """Folder of the shards of a generator that is trained on these real pairs alone."""
        return self.own_pairs / f"R{num}.{draw}"

    @property
    def own_pairs(self) -> Path:
        """Folder of the shards of all generators of that kind: real patients' images and reports."""
        return self.path / "real-pairs"

    @property
    def judgements(self) -> Path:
        """Folder of judges' scores."""
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
