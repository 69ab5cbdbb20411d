"""Requirements of an experiment on shards and on models given by the user, checked before anything starts.

Subject ids are compared here and never shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow.parquet as pq

from emixer import files
from emixer.config import Config
from emixer.config.training import DataConfig
from emixer.data.labels import LabelPolicy
from emixer.data.loader import open_without_reports
from emixer.data.patients import PATIENT, subjects_in
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError, StorageError
from emixer.evaluation.auc_table import MIN_IMAGES
from emixer.evaluation.report_mentions import reads_language
from emixer.experiments.tables import REAL_PAIRS, Table
from emixer.generation.trained_model import read_trained_model
from emixer.models.paired_model import ModelSpec
from emixer.run_folder import RunFolder
from emixer.stages.model_spec import spec_of

_SPLITS = ("train", "validate", "test")


def require_rows(shards: ShardSet, table: Table) -> None:
    """Raise ShardError unless there are enough real images for the table, with reports if it needs them."""
    cells = table.all_cells(seeds=(0,))
    wanted = max((cell.mix.real for cell in cells), default=0)
    there = shards.num_rows("train")
    if wanted > there:
        raise ShardError(
            f"{table.name} needs {wanted:,} real images in train; {shards.folder} has {there:,}. "
            + (
                f"Set experiment.scale to at most {there / REAL_PAIRS:g}."
                if table.has_printed
                else "Lower --real (experiment.real_pairs)."
            )
        )
    if any(cell.task in ("reports", "pairs") for cell in cells):
        for split in _SPLITS:
            if not reads_language(shards.info.report_language):
                raise ShardError(
                    f"{table.name} needs English reports; those in {shards.folder} are in the language "
                    f"{shards.info.report_language!r}. Use shards with English reports, or table5, table9 or table10."
                )
            if not shards.has_reports(split):
                raise ShardError(
                    f"{table.name} needs reports, but no image in the {split} split of {shards.folder} has one. "
                    "Use shards with reports, or table5, table9 or table10."
                )


def require_splits(shards: ShardSet) -> None:
    """Raise ShardError if a split is empty, or if a test subject also occurs in train or validate."""
    for split in _SPLITS:
        if not shards.num_rows(split):
            raise ShardError(
                f"The {split} split of {shards.folder} is empty; models are trained, selected and tested on different "
                "subjects. Ingest again with all three splits."
            )
    common = _subjects(shards, ("train", "validate")) & _subjects(shards, ("test",))
    if common:
        raise ShardError(
            f"{len(common):,} subjects of the test split of {shards.folder} also have images in train or validate "
            "(data leakage). Ingest with splits by subject."
        )


def require_labels(shards: ShardSet, names: Sequence[str], key: str) -> None:
    """Raise ShardError if a label has no column. key: the setting that names them."""
    missing = [name for name in names if name not in shards.info.label_names]
    if missing:
        raise ShardError(
            f"{shards.folder} has no label {', '.join(missing)}. Choose {key} from: "
            f"{', '.join(shards.info.label_names)}."
        )


@dataclass(frozen=True)
class Diseases:
    """Number of test images with each disease, and the diseases that figures are means over."""

    present: Mapping[str, int]
    left_out: tuple[str, ...]
    """Diseases with too few positive or too few negative test images."""

    @classmethod
    def of(cls, shards: ShardSet, names: Sequence[str], policy: LabelPolicy) -> Self:
        """Count the labels of the test images. policy: how downstream models read labels."""
        reader = open_without_reports(shards, "test", DataConfig(), 0, policy)
        columns = [reader.label_names.index(name) for name in names]
        present_Y, absent_Y = (counts_Y[columns].tolist() for counts_Y in reader.known_counts())
        sides = dict(zip(names, zip(present_Y, absent_Y, strict=True), strict=True))
        left_out = tuple(name for name, both in sides.items() if min(both) < MIN_IMAGES)
        return cls({name: present for name, (present, _) in sides.items()}, left_out)

    @property
    def measured_in_words(self) -> str:
        """Measured diseases, e.g. `Edema 78, Effusion 60`."""
        return ", ".join(f"{name} {num:,}" for name, num in self.present.items() if name not in self.left_out)

    @property
    def left_out_in_words(self) -> str:
        """Excluded diseases in the same form, with the reason; empty if there are none."""
        told = ", ".join(f"{name} {self.present[name]:,}" for name in self.left_out)
        return f"{told} (fewer than {MIN_IMAGES} positive or negative test images)" if told else ""


def require_measurable(shards: ShardSet, diseases: Sequence[str], policy: LabelPolicy) -> None:
    """Raise ShardError if a split has no labels, or no disease has enough positive and negative test images."""
    for split in _SPLITS:
        _, counts_K = _label_counts(shards, split, diseases)
        if not len(counts_K):
            raise ShardError(
                f"No image in the {split} split of {shards.folder} has labels, but classifiers need "
                f"{', '.join(diseases)}. Ingest with label columns."
            )
    found = Diseases.of(shards, diseases, policy)
    if len(found.left_out) == len(diseases):
        present = ", ".join(f"{name} {num}" for name, num in found.present.items())
        raise ShardError(
            f"No disease can be measured on the {counts_K.sum():,} labelled test images of {shards.folder}: it takes "
            f"{MIN_IMAGES} positive and {MIN_IMAGES} negative images; positive: {present}. Change experiment.diseases, "
            "or ingest with a larger test split."
        )


def require_classes(covid: ShardSet, classes: Sequence[str]) -> None:
    """Raise ShardError unless each image belongs to exactly one of the classes, and each split has all of them."""
    for split in _SPLITS:
        vectors_KY, counts_K = _label_counts(covid, split, classes)
        rows, one = covid.num_rows(split), vectors_KY.sum(1) == 1
        if (others := rows - counts_K[one].sum()) > 0:
            raise ShardError(
                f"{others:,} of {rows:,} images in the {split} split of {covid.folder} have none or several of the "
                f"labels {', '.join(classes)}; table5 needs exactly one per image. Ingest without them, with a class "
                "column, or set experiment.covid_classes."
            )
        absent = [name for name, num in zip(classes, counts_K @ vectors_KY, strict=True) if not num]
        if absent:
            raise ShardError(
                f"The {split} split of {covid.folder} has no image of class {', '.join(absent)}. Ingest again with "
                "all four classes in each split."
            )


def require_fitting(
    run: Path, name: str, wanted: Config, shards: ShardSet, diseases: Sequence[str], tested: Sequence[ShardSet]
) -> bool:
    """Raise ConfigError if the run given for the generator `name` is of another kind or size, lacks labels, or its
    shards have changed since; ShardError if it was trained on test subjects of `tested`.

    wanted: the config under which it would be trained here. Returns False if its shards are gone or may not be read, so
    that this cannot be checked.
    """
    trained = read_trained_model(run, wanted.generate.checkpoint)
    expected: dict[str, tuple[object, object]] = {
        "model.kind": (wanted.model.kind, trained.config.kind),
        "model.side_px": (shards.info.side_px, trained.config.side_px),
    }
    config = None if trained.run_folder is None else RunFolder.open(trained.run_folder, "train").config
    if config is not None:
        expected["data.labelled_fraction"] = (wanted.data.labelled_fraction, config.data.labelled_fraction)
    for key, (here, there) in expected.items():
        if here != there:
            raise ConfigError(f"experiment.runs: {run} has {key}={there}; {name} needs {here}. Give another run.")
    missing = [disease for disease in diseases if disease not in trained.spec.label_names]
    if missing:
        raise ConfigError(
            f"experiment.runs: the model in {run} has no label {', '.join(missing)}. Give a run trained with it, or "
            f"choose experiment.diseases from: {', '.join(trained.spec.label_names)}."
        )
    if config is None or config.data.shards is None or not _is_readable_folder(config.data.shards):
        return False
    source = ShardSet.open(config.data.shards)
    _require_unchanged(source, run, config, trained.spec)
    for other in tested:
        if other.folder.resolve() != source.folder.resolve():  # splits of one folder are compared anyway
            require_unseen(source, other)
    return True


def _is_readable_folder(path: Path) -> bool:
    try:
        return files.is_there(path) and path.is_dir()
    except StorageError:  # somebody else's
        return False


def require_unseen(trained_on: ShardSet, tested_on: ShardSet) -> None:
    """Raise ShardError if test subjects of one collection are in train or validate of the other."""
    common = _subjects(trained_on, ("train", "validate")) & _subjects(tested_on, ("test",))
    if common:
        raise ShardError(
            f"{len(common):,} subjects of the test split of {tested_on.folder} are in train or validate of the "
            f"training shards {trained_on.folder}. Give shards with the same splits, or with other subjects."
        )


def sources_of(shards: ShardSet, split: str) -> frozenset[str]:
    """Source collections of the images of a split."""
    columns = [pq.read_table(file, columns=["source"])["source"] for file in _files(shards, (split,))]
    return frozenset(source for column in columns for source in column.unique().to_pylist())


def same_label_counts(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether both were trained on the same number of images of each label combination."""
    return (one.label_vectors, one.label_counts) == (other.label_vectors, other.label_counts)


def _require_unchanged(source: ShardSet, run: Path, config: Config, spec: ModelSpec) -> None:
    """Raise ConfigError if the shards of a run have changed since it was trained: with other splits, its training
    images may now be test images. Detected by the words and labels of the train split, which the model's spec
    holds."""
    now = spec_of(source, config)
    same_words = (now.tokens, now.label_names) == (spec.tokens, spec.label_names)
    same_counts = same_label_counts(now, spec)
    if same_words and not same_counts and config.data.labelled_fraction < 1:
        raise ConfigError(
            f"experiment.runs: {run} kept the labels of other images than this version selects. Train it again."
        )
    if not (same_words and same_counts):
        raise ConfigError(
            f"experiment.runs: the shards in {source.folder} have changed since {run} was trained on them, so it may "
            "have seen images of their test split. Train it again, or restore the original shards."
        )


def _label_counts(shards: ShardSet, split: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct vectors of the named labels, int64 (K, Y), 1 present, and the number of images with each (K)."""
    reader = open_without_reports(shards, split, DataConfig(), seed=0)
    vectors, counts = reader.label_counts()
    return vectors[:, [reader.label_names.index(name) for name in names]].astype(np.int64), counts


def _subjects(shards: ShardSet, splits: Sequence[str]) -> set[str]:
    """Subjects, with the source."""
    tables = (pq.read_table(file, columns=list(PATIENT)) for file in _files(shards, splits))
    return {subject for table in tables for subject in subjects_in(table)}


def _files(shards: ShardSet, splits: Sequence[str]) -> list[Path]:
    return [file for split in splits if shards.num_rows(split) for file in shards.files(split)]
