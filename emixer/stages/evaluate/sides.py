"""Data that `emixer evaluate` compares: equally many generated, held-out and train images, with labels and reports."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.config import Config
from emixer.data.conditions import Columns, Conditions
from emixer.data.known_of_images import column_of, columns_of_values
from emixer.data.labels import LabelPolicy
from emixer.data.pair_table import (
    PairTable,
    RealPairs,
    TableShape,
    open_generated,
    read_generated_columns,
    read_real_with,
)
from emixer.data.patients import STUDY, studies_in
from emixer.data.shards import ShardSet
from emixer.data.vocabulary import read_written
from emixer.errors import ConfigError, ShardError
from emixer.evaluation.pair_metrics import Report
from emixer.evaluation.report_mentions import reads_language
from emixer.evaluation.spread import spread_rows

DECODED = "decoded"
"""Below the folder of an evaluation: pairs as arrays, which later evaluations there read."""


@dataclass(frozen=True)
class Sides:
    """Rows to compare: equal numbers of generated, held-out real and train images. Generated ones are spread over
    the whole dataset, real ones the first of shards in which each row is a random one."""

    dataset: Path
    fingerprint: str
    made_of: str
    """Identity of the rows and the content of the generated pairs."""
    shards: ShardSet
    split: str
    shape: TableShape
    num: int
    generated: PairTable
    generated_reports: list[Report]
    held_out: RealPairs
    """The whole split: its first `num` images are compared, all of its reports are references."""
    studies: tuple[str, ...]
    """Studies of the held-out images, with the source. Never printed."""
    num_unread: int
    """Reports of the compared held-out images in an unsupported language; they count as missing."""
    sample: PairTable
    """Train images."""
    conditions: Conditions
    """Conditions by which figures are split, with the groups of the generated pairs."""
    columns: Mapping[str, Columns]
    """Their columns, by kind: generated, real, sample."""

    def subjects(self, kind: str) -> Sequence[str]:
        """Subject of each generated or real image; every generated image is its own subject. Never printed."""
        return self.held_out.subjects[: self.num] if kind == "real" else [str(n) for n in range(self.num)]

    @property
    def real(self) -> PairTable:
        """Held-out images that are compared."""
        return self.held_out.table.head(self.num)


def num_images(config: Config, manifest: Mapping[str, Any], shards: ShardSet) -> int:
    """Number of images on each side. manifest: of the generated dataset."""
    most: int = min(manifest["rows"], shards.num_rows(config.evaluate.split), shards.num_rows("train"))
    return min(most, config.evaluate.images or most)


def compared_labels(dataset: Path, manifest: Mapping[str, Any], shards: ShardSet) -> tuple[str, ...]:
    """Labels that both sides have, in the order of the shards. Raises ShardError if there are none."""
    labels = tuple(name for name in shards.info.label_names if name in manifest["label_counts"])
    if not labels:
        raise ShardError(f"{dataset} and {shards.folder} share no label. Compare with the collection it is based on.")
    return labels


def labels_in_json(manifest: Mapping[str, Any], shards: ShardSet, compared: Sequence[str]) -> dict[str, list[str]]:
    """Labels that are compared, and those that only one side has."""
    return {
        "compared": list(compared),
        "only_generated": [name for name in manifest["label_counts"] if name not in compared],
        "only_real": [name for name in shards.info.label_names if name not in compared],
    }


def read_sides(config: Config, dataset: Path, manifest: Mapping[str, Any], shards: ShardSet, out: Path) -> Sides:
    """Read the rows to compare. Raises ShardError if the dataset's labels or image size do not match the shards."""
    labels = compared_labels(dataset, manifest, shards)
    # reports are read as text, regardless of a model's lengths and vocabulary
    shape = TableShape(labels, shards.info.side_px, 1, 2, shards.vocabulary)
    num = num_images(config, manifest, shards)
    names = [file["name"] for file in manifest["files"]]
    rows = spread_rows(manifest["rows"], num)
    made_of = _digest(manifest["files"], rows)
    decoded = out / DECODED / f"{made_of[:24]}-{shape.digest}"
    policy = LabelPolicy(config.data.uncertain, "zeros")
    conditions = split_by(config, dataset, manifest, shards)
    held_out = RealPairs.read(shards, config.evaluate.split, shape, policy, conditions)
    sample, of_sample = read_real_with(shards, "train", shape, policy, num, conditions)
    of_generated = _known(dataset, names, conditions, rows)
    num_unread = 0
    if not reads_language(shards.info.report_language):
        num_unread = _num_texts(shards, config.evaluate.split, num)
        held_out = replace(held_out, reports=(None,) * len(held_out.reports))
    return Sides(
        dataset, manifest["fingerprint"], made_of, shards, config.evaluate.split, shape, num,
        open_generated(dataset, names, shape, decoded, rows), _reports([dataset / name for name in names], rows),
        held_out, _studies(shards, config.evaluate.split), num_unread,
        sample, conditions,
        {"generated": of_generated, "real": held_out.columns_NC[:num], "sample": of_sample},
    )  # fmt: skip


def split_by(config: Config, dataset: Path, manifest: Mapping[str, Any], shards: ShardSet) -> Conditions:
    """Conditions of `evaluate.by`, with the values of the generated pairs.

    Raises ConfigError if the pairs were not conditioned on one of them, ShardError if the shards lack it.
    """
    made = Conditions.from_json(manifest.get("conditions"))
    for name in config.evaluate.by:
        if name not in made.names:
            raise ConfigError(
                f"evaluate.by names {name}, but the pairs in {dataset} were not conditioned on it. Generate them with "
                f"a model trained with {name} in model.conditions, or remove it."
            )
        if column_of(name) not in shards.info.arrow_schema().names:
            raise ShardError(
                f"evaluate.by names {name}, which the shards in {shards.folder} lack. Give shards with it, or remove "
                "it."
            )
    values = tuple(made.values_of(name) for name in config.evaluate.by)
    return Conditions(tuple(config.evaluate.by), values, made.age_bounds)


def _known(dataset: Path, files: Sequence[str], conditions: Conditions, rows: NDArray[np.int64]) -> Columns:
    """Condition columns of the generated pairs in `rows`."""
    if not conditions.names:
        return np.zeros((len(rows), 0), np.uint8)
    tables = [read_generated_columns(dataset / name, conditions.names) for name in files]
    return columns_of_values(pa.concat_tables(tables).take(rows), conditions)


def content_of(shards: ShardSet, split: str, num: int) -> str:
    """Identity of the pixels of the first `num` images of a split."""
    return f"{shards.digest((split,))}/{split}/{num}"


def _digest(listed: Sequence[Mapping[str, Any]], rows: NDArray[np.int64]) -> str:
    """Of rows of a dataset's files, as its manifest lists these."""
    digests = "".join(file["sha256"] for file in listed)
    return hashlib.sha256(digests.encode() + rows.tobytes()).hexdigest()


def train_reports(shards: ShardSet) -> Iterator[Report]:
    """All training reports, file by file."""
    for file in shards.files("train"):
        column = pq.read_table(file, columns=["sentences"])["sentences"]
        yield from (report for report in column.to_pylist() if report)


def _reports(files: Sequence[Path], rows: NDArray[np.int64]) -> list[Report]:
    texts = pa.concat_tables(read_generated_columns(file, ["report"]) for file in files)["report"]
    return [read_written(text) for text in texts.take(rows).to_pylist()]


def _num_texts(shards: ShardSet, split: str, num: int) -> int:
    """Number of reports of the first `num` images, in any language."""
    columns = [pq.read_table(file, columns=["report"])["report"] for file in shards.files(split)]
    texts = pa.concat_tables(pa.table({"report": column}) for column in columns)["report"].slice(0, num)
    return int(len(texts) - texts.null_count)


def _studies(shards: ShardSet, split: str) -> tuple[str, ...]:
    return tuple(studies_in(pa.concat_tables(pq.read_table(file, columns=list(STUDY)) for file in shards.files(split))))
