"""A generated dataset, studies made from it, and a server with a separate reader for each test."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from emixer.config import Config, load_config
from emixer.data.labels import CHEXPERT
from emixer.data.loader import fixed_binary_view
from emixer.data.text import detokenize
from emixer.stages.study import make as study_make
from tests.datasets import write_pairs
from tests.reader_study.study_server import StudyServer

MakeDataset = Callable[..., Path]
NUM_READERS = 24


@pytest.fixture(scope="session")
def make_dataset(tiny_shards: Path) -> MakeDataset:
    """make_dataset(folder, side_px=32, names=CHEXPERT, image_format="png"): a finished dataset of 96 pairs: darkened
    training images and their reports."""

    def make(folder: Path, side_px: int = 32, names: tuple[str, ...] = CHEXPERT, image_format: Any = "png") -> Path:
        rows = pq.read_table(tiny_shards / "train-00000.parquet")
        images = fixed_binary_view(rows["image"], np.uint8, (32, 32))[:, :side_px, :side_px] // 2
        labels = np.array([row or [0] * len(CHEXPERT) for row in rows["labels"].to_pylist()], np.uint8)[:, : len(names)]
        reports = [detokenize(sentences or [["no", "report"]]) for sentences in rows["sentences"].to_pylist()]
        return write_pairs(folder, images, reports, labels, names, {"image_format": image_format}, image_format)

    return make


@pytest.fixture(scope="session")
def generated(make_dataset: MakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("generated") / "pairs")


@pytest.fixture(scope="session")
def study_config(tiny_shards: Path, generated: Path) -> Callable[..., Config]:
    """study_config(folder, KEY=value): 6 + 6 pairs of the validation split, 2 of them shown twice."""

    def make(folder: Path, **changed: Any) -> Config:
        small = {"pairs": 6, "repeats": 2, "readers": NUM_READERS, "split": "validate", "dataset": generated}
        keys = {f"study.{name}": value for name, value in (small | {"folder": folder} | changed).items()}
        shards = keys.pop("study.shards", tiny_shards)
        return load_config(extra=keys | {"data.shards": shards})

    return make


@pytest.fixture(scope="module")
def served(study_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyServer]:
    """A study and its server. Its readers are independent of each other: see `reader`."""
    folder = study_make.run(study_config(tmp_path_factory.mktemp("studies") / "served")).folder
    with closing(StudyServer(folder)) as server:
        yield server


@pytest.fixture
def reader(served: StudyServer, request: pytest.FixtureRequest) -> int:
    """The number of a reader used by no other test."""
    taken: int = getattr(served, "taken", 0)
    served.taken = taken + 1  # type: ignore[attr-defined]
    return taken
