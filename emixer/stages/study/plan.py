"""The plan of `emixer study make`: opened and checked sources, a balance over labels, drawn pairs of each side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emixer import files
from emixer.config import Config
from emixer.config.study import StudyConfig
from emixer.data.labels import LabelPolicy
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError
from emixer.generation.manifest import read_finished_manifest
from emixer.reader_study.candidates import (
    Candidates,
    DrawnPairs,
    generated_candidates,
    read_generated,
    read_real,
    real_candidates,
)
from emixer.reader_study.design import NO_LABEL, Balance, draw, evenly, strata_of, widest_balance
from emixer.reader_study.folder import KeyEntry, require_free
from emixer.reader_study.images import through_jpeg
from emixer.reader_study.rating import KINDS


@dataclass(frozen=True)
class StudyPlan:
    """Sources and drawn pairs of a study. Of two sides, real comes first."""

    folder: Path
    settings: StudyConfig
    shards: ShardSet
    dataset: Path
    manifest: dict[str, Any]
    names: tuple[str, ...]
    """Labels of both sides."""
    sides: tuple[Candidates, Candidates]
    balance: Balance
    left_out: tuple[str, ...]
    """Labels with too few pairs on one side."""
    drawn: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Indices of drawn candidates of each side, as many as the balance requires, stratum by stratum."""

    @property
    def strata(self) -> dict[str, int]:
        """Number of pairs of each side by the label they represent."""
        return dict(zip(self.balance.strata, self.balance.quota_S.tolist(), strict=True))

    def read(self) -> tuple[DrawnPairs, DrawnPairs]:
        """Read the drawn images and reports."""
        real_rows, generated_rows = (
            side.rows_N[drawn].tolist() for side, drawn in zip(self.sides, self.drawn, strict=True)
        )
        real = read_real(self.shards, self.settings.split, real_rows)
        if self.manifest["settings"].get("image_format") == "jpeg":
            real = DrawnPairs(through_jpeg(real.images_PHW), real.reports)
        return real, read_generated(self.dataset, _files_of(self.manifest), generated_rows)

    def key(self, items: Sequence[str]) -> dict[str, KeyEntry]:
        """Key of the study, by item. items: names of all drawn pairs, the real ones first."""
        strata = np.repeat(self.balance.strata, self.balance.quota_S)
        entries = []
        for kind, side, drawn in zip(KINDS, self.sides, self.drawn, strict=True):
            for stratum, n in zip(strata, drawn, strict=True):
                labels = tuple(name for name, y in zip(self.names, side.labels_NY[n], strict=True) if y)
                entries.append(KeyEntry(kind, str(stratum), labels, int(side.subject_N[n]), int(side.rows_N[n])))
        named = dict(zip(items, entries, strict=True))
        return {item: named[item] for item in sorted(named)}


def study_plan(config: Config) -> StudyPlan:
    """Open and check the sources, and draw pairs. Raises ConfigError, ShardError or RunFolderError."""
    settings = config.study
    folder, dataset = settings.folder, settings.dataset
    if folder is None or dataset is None or config.data.shards is None:
        raise ConfigError(
            "study.folder, study.dataset and data.shards must be set: give --study, --dataset and --shards."
        )
    require_free(folder)
    files.require_writable(folder.parent)
    shards = ShardSet.open(config.data.shards)
    manifest = read_finished_manifest(dataset)
    names = _same_labels(shards, dataset, manifest)
    _require_same_size(shards, dataset, manifest)
    policy = LabelPolicy(config.data.uncertain, "zeros")
    sides = (
        real_candidates(shards, settings.split, names, policy, settings.seed),
        generated_candidates(dataset, _files_of(manifest), names),
    )
    balance, left_out = _balance(settings, names, sides)
    real, generated = (
        draw(strata_of(side.labels_NY, names, balance.strata), balance.quota_S, [settings.seed, 3, number])
        for number, side in enumerate(sides)
    )
    if real is None or generated is None:
        raise _together_too_few(settings, balance)
    return StudyPlan(
        folder, settings, shards, dataset, manifest, names, sides, balance, left_out, (real, generated)
    )  # fmt: skip


def _files_of(manifest: dict[str, Any]) -> list[str]:
    return [listed["name"] for listed in manifest["files"]]


def _same_labels(shards: ShardSet, dataset: Path, manifest: dict[str, Any]) -> tuple[str, ...]:
    """Labels of both sides. Raises ConfigError if the dataset has others."""
    ours, theirs = shards.info.label_names, tuple(manifest["label_counts"])
    other = [name for name in theirs if name not in ours]
    if other or not theirs:
        raise ConfigError(
            f"The labels of the dataset {dataset} do not match those of the shards {shards.folder} "
            f"(extra: {', '.join(other) or 'none; it has no labels'}), but pairs are balanced by label. Give --shards "
            "of the collection that the model was trained on."
        )
    return tuple(name for name in ours if name in theirs)


def _require_same_size(shards: ShardSet, dataset: Path, manifest: dict[str, Any]) -> None:
    side_px = read_generated(dataset, _files_of(manifest), [0]).images_PHW.shape[1]
    if side_px != shards.info.side_px:
        raise ConfigError(
            f"The dataset {dataset} has images of {side_px} px, the shards {shards.folder} of {shards.info.side_px} "
            "px: readers could tell them apart by sharpness. Give --shards of the same size, e.g. those that the model "
            "was trained on."
        )


def _balance(
    settings: StudyConfig, names: Sequence[str], sides: tuple[Candidates, Candidates]
) -> tuple[Balance, tuple[str, ...]]:
    """Balance of the study, and the labels left out. Raises ConfigError if there are too few pairs."""
    known = (*names, NO_LABEL)
    unknown = [name for name in settings.labels if name not in known]
    if unknown:
        raise ConfigError(f"study.labels: unknown label {', '.join(unknown)}. Choose from: {', '.join(known)}.")
    wanted = settings.labels or known
    may_stand_for = [strata_of(side.labels_NY, names, wanted) for side in sides]
    if not settings.labels:
        found = widest_balance(may_stand_for, wanted, settings.pairs)
        if found is None:
            raise _too_few(settings, known, [side_NS.sum(0) for side_NS in may_stand_for], settings.pairs)
        return found, tuple(name for name in known if name not in found.strata)
    if len(wanted) > settings.pairs:
        raise ConfigError(f"study.pairs={settings.pairs} is less than the {len(wanted)} labels. Raise --pairs.")
    balance = evenly(settings.pairs, wanted)
    counts = [side_NS.sum(0) for side_NS in may_stand_for]
    if (np.min(counts, axis=0) < balance.quota_S).any():
        raise _too_few(settings, wanted, counts, int(balance.quota_S.max()))
    return balance, ()


def _too_few(
    settings: StudyConfig, names: Sequence[str], counts: Sequence[NDArray[np.int64]], needed: int
) -> ConfigError:
    short = [
        f"{name} ({real} real, {generated} generated)"
        for name, real, generated in zip(names, *counts, strict=True)
        if min(real, generated) < needed
    ]
    return ConfigError(
        f"Too few pairs for study.pairs={settings.pairs}, which needs {needed} real and {needed} generated: "
        f"{'; '.join(short)}. Real pairs are one per study in the {settings.split} split with labels and a report. "
        "Give fewer --pairs, other --labels, another --split, or a larger --dataset."
    )


def _together_too_few(settings: StudyConfig, balance: Balance) -> ConfigError:
    return ConfigError(
        f"study.pairs={settings.pairs} cannot be drawn for {', '.join(balance.strata)}: each label has enough pairs, "
        "but many have several labels and can be used only once. Give fewer --pairs, fewer --labels or a larger "
        "--dataset."
    )
