"""Shards and datasets for tests of the audit: smooth images that resemble each other, reports with stock sentences."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from emixer.data.conditions import NO_CONDITIONS, Conditions
from emixer.data.labels import CHEXPERT
from emixer.data.schema import ShardInfo
from emixer.data.shards import shard_name, write_shard
from emixer.data.text import detokenize
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.files import sha256_of, write_json
from emixer.generation.manifest import MANIFEST_NAME, read_finished_manifest
from emixer.generation.training_data import TrainingData
from tests.datasets import write_pairs

SIDE_PX = 32
Images = NDArray[np.uint8]
Report = list[list[str]]
_STOCK = [["the", "heart", "size", "is", "normal"], ["no", "pleural", "effusion", "or", "pneumothorax", "is", "seen"]]
_OWN_WORDS = [f"word{letter}{n}" for letter in "abcdefgh" for n in range(20)]
WORDS = tuple(sorted({word for sentence in _STOCK for word in sentence})) + tuple(_OWN_WORDS)
"""Of all reports."""


def images(num: int, seed: int) -> Images:
    """Return images (num, 32, 32): a shared chest-like shading, and structures specific to each image."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    chest = 90 * np.exp(-((np.abs(x) - 0.5) ** 2 / 0.1 + y**2 / 0.5))
    return np.stack([
        np.clip(60 + chest + _smooth(generator, 12, 55) + _smooth(generator, 24, 20), 0, 255) for _ in range(num)
    ]).astype(np.uint8)  # fmt: skip


def _smooth(generator: np.random.Generator, cells: int, height: float) -> NDArray[np.float32]:
    field = Image.fromarray(generator.normal(0, height, (cells, cells)).astype(np.float32))
    return np.asarray(field.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def reports(num: int, seed: int) -> list[Report]:
    """Return reports of stock sentences and two sentences specific to each."""
    generator = np.random.default_rng(seed)
    own = lambda: [str(word) for word in generator.choice(_OWN_WORDS, 9)]  # noqa: E731
    return [[_STOCK[0], own(), _STOCK[1], own()] for _ in range(num)]


def write_shards(
    folder: Path, of_split: dict[str, tuple[Images, Sequence[Report] | None]], names: tuple[str, ...] = CHEXPERT,
    sexes: Mapping[str, Sequence[str | None]] | None = None,
    labels: Mapping[str, Sequence[Sequence[int]]] | None = None, images_a_study: int = 1,
) -> Path:  # fmt: skip
    """Write shards with one study per subject. names: of the labels. sexes, labels: by split; none is present in images
    of a split without."""
    folder.mkdir(parents=True)
    info = ShardInfo(SIDE_PX, names, "findings", 1, "test", known_of_images=() if sexes is None else ("sex",))
    entries = []
    for split, (image, told) in of_split.items():
        num, path = len(image), folder / shard_name(split, 0)
        ids = [f"secret-{split}-{row}" for row in range(num)]
        whose = [f"secret-{split}-of-{row // images_a_study}" for row in range(num)]
        table = pa.table(
            {
                "dicom_id": ids, "study_id": whose, "subject_id": whose, "view": ["PA"] * num, "split": [split] * num,
                "image": pa.array([each.tobytes() for each in image], pa.binary(SIDE_PX**2)),
                "report": [None] * num if told is None else [detokenize(text) for text in told],
                "sentences": [None] * num if told is None else list(told),
                "labels": (labels or {}).get(split, [[0] * len(names)] * num), "source": ["made"] * num,
                **({} if sexes is None else {"sex": list(sexes[split])}),
            },
            schema=info.arrow_schema(),
        )  # fmt: skip
        write_shard(path, table, info, row_group_rows=64)
        entries.append({"name": path.name, "split": split, "num_rows": num, "num_bytes": path.stat().st_size,
                        "sha256": sha256_of(path)})  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"shards": entries, "labels": {}}))
    Vocabulary(SPECIAL_TOKENS + WORDS).save(folder / "vocabulary.json")
    return folder


def write_dataset(
    folder: Path, image: Images, told: Sequence[Report], names: tuple[str, ...] = CHEXPERT, present: int = 0,
    weights: str = "none", sexes: Sequence[str] | None = None, trained_on: TrainingData | None = None,
) -> Path:  # fmt: skip
    """Write a finished dataset as `emixer generate` leaves it; every pair has label number `present`. sexes: F or M,
    the sex a model conditioned on it made each pair for. trained_on: None as in older datasets, which do not say."""
    labels = np.zeros((len(image), len(names)), np.uint8)
    labels[:, present] = 1
    settings = {"weights_sha256": weights, "name": folder.name}
    conditions = NO_CONDITIONS
    if sexes is not None:
        conditions = Conditions(("sex",), (("F", "M"),))
        labels = np.concatenate([labels, [[sex == "F", sex == "M"] for sex in sexes]], axis=1).astype(np.uint8)
    write_pairs(folder, image, [detokenize(each) for each in told], labels, names, settings, conditions=conditions)
    if trained_on is not None:
        manifest = read_finished_manifest(folder)
        write_json(folder / MANIFEST_NAME, manifest | {"trained_on": trained_on.to_json()})
    (folder / "README.md").write_text(CARD)
    return folder


CARD = """# Card

- **No privacy audit was done on this dataset.** Generative models can repeat training examples; `emixer audit` looks.
- Another line.
"""
