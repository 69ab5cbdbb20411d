"""Our loaders and a bare reader of the same shards, measured as the peers are; run by benchmarks/peers.py.

    python peer_ours.py SOURCE LOADER MIN_CPU_S SIDE...

open-shards   emixer.open_shards(folder).stream(BATCH, seed=0): reports as text, read whether or not they are used.
ray-data      what `emixer train` reads through: Ray Data, images, labels and reports as token ids, always.
pyarrow       files in shuffled order, a permutation by numpy; with reports, the same token ids.
Shards are written in 8 files, so that there is an order to shuffle.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peer_loaders import compare
from peer_measure import BATCH, Batch, Known, Loader, as_batch

import emixer
from emixer.config import Config, RayConfig
from emixer.data.labels import CHEXPERT
from emixer.data.loader import BatchStream, fixed_binary_view, open_windows, read_ahead
from emixer.data.order import Position
from emixer.data.schema import ShardInfo
from emixer.data.shards import ShardSet, shard_name, write_shard
from emixer.data.text import tokenize
from emixer.data.vocabulary import Vocabulary
from emixer.files import sha256_of
from emixer.ray_session import connect
from emixer.training.step import moved

MAX_SENTENCES, MAX_WORDS = 8, 20
_FILES = 8
_CPU = torch.device("cpu")
_EPOCH_BYTES = 2**28
"""Ray Data reads ahead without end; it is asked for so many images at once, and no more."""


class OpenShards(Loader):
    """A torch IterableDataset."""

    def __init__(self, folder: Path, with_reports: bool) -> None:
        self._stream = emixer.open_shards(folder).stream(BATCH, seed=0)
        self._with_reports = with_reports

    def epoch(self) -> Iterator[Batch]:
        for batch in self._stream:
            yield Batch(batch["image"], batch["report"] if self._with_reports else None)
        self._stream.epoch += 1

    def state(self) -> Any:
        return self._stream.state_dict()

    def restore(self, state: Any) -> None:
        self._stream.load_state_dict(state)


class RayData(Loader):
    """Windows through Ray Data. An epoch here is several passes, since each starts an execution."""

    def __init__(self, folder: Path, with_reports: bool) -> None:
        shards = ShardSet.open(folder)
        self._reader = open_windows(shards, "train", Config().data, 0, MAX_SENTENCES, MAX_WORDS)
        passes = max(1, _EPOCH_BYTES // (shards.num_rows("train") * shards.info.side_px**2))
        self._images = passes * shards.num_rows("train")
        self._position = Position(1)

    def epoch(self) -> Iterator[Batch]:
        rows = self._images - self._position.rows % self._images
        windows = partial(read_ahead, self._reader, num_tasks=2)
        stream = BatchStream(self._reader, BATCH, self._position, 0, windows, images=rows)
        for _ in range(rows // BATCH):
            batch = next(stream)
            self._position = stream.position
            yield Batch(moved(batch.image, _CPU).unsqueeze(1), moved(batch.words, _CPU))

    def state(self) -> Any:
        return asdict(self._position)

    def restore(self, state: Any) -> None:
        self._position = Position(**state)


class BarePyarrow(Loader):
    """What the disk format allows."""

    def __init__(self, folder: Path, with_reports: bool) -> None:
        self._shards, self._with_reports = ShardSet.open(folder), with_reports
        self._random = np.random.default_rng(0)

    def epoch(self) -> Iterator[Batch]:
        columns = ["image", "labels", *(["sentences"] if self._with_reports else [])]
        side = self._shards.info.side_px
        for file in self._random.permutation([str(path) for path in self._shards.files("train")]):
            table = pq.read_table(file, columns=columns, use_threads=False)
            order = self._random.permutation(len(table))
            image = fixed_binary_view(table["image"], np.uint8, (side, side))
            if self._with_reports:
                words = self._shards.vocabulary.encode_sentences(table["sentences"], MAX_SENTENCES, MAX_WORDS)
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                reports = torch.from_numpy(words[rows]) if self._with_reports else None
                yield Batch(as_batch(image[rows]), reports)


def write_shards(folder: Path, images: np.ndarray, reports: list[str]) -> None:
    """As `emixer ingest` leaves them: row groups of its default size."""
    folder.mkdir()
    side_px = images.shape[1]
    info = ShardInfo(side_px, CHEXPERT, "none", 1, "benchmark")
    sentences = [tokenize(report) for report in reports]
    entries = []
    for number, rows in enumerate(np.array_split(np.arange(len(images)), _FILES)):
        ids, num = [f"{row:08d}" for row in rows], len(rows)
        table = pa.table(
            {
                "dicom_id": ids, "study_id": ids, "subject_id": ids, "view": ["PA"] * num, "split": ["train"] * num,
                "image": pa.array([images[row].tobytes() for row in rows], pa.binary(side_px**2)),
                "report": [reports[row] for row in rows], "sentences": [sentences[row] for row in rows],
                "labels": [[0] * len(CHEXPERT)] * num, "source": ["benchmark"] * num,
            },
            schema=info.arrow_schema(),
        )  # fmt: skip
        path = folder / shard_name("train", number)
        write_shard(path, table, info, max(1, Config().ingest.row_group_bytes // side_px**2))
        entries.append({
            "name": path.name, "split": "train", "num_rows": num, "num_bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        })  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"shards": entries}))
    counts = Counter(word for report in sentences for sentence in report for word in sentence)
    Vocabulary.from_counts(counts, 1).save(folder / "vocabulary.json")


LOADERS = {"open-shards": OpenShards, "ray-data": RayData, "pyarrow": BarePyarrow}


def main() -> None:
    """Writes shards, then measures one of the loaders."""
    source, name, min_cpu_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    torch.set_num_threads(1)
    for side in map(int, sys.argv[4:]):
        images = np.load(source / str(side) / "images.npy", mmap_mode="r")
        reports = json.loads((source / "reports.json").read_text())[: len(images)]
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "shards"
            write_shards(folder, images, reports)
            known = Known(source / str(side) / "images.npy")
            facts = {"peer": name, "form": "raw, Parquet", "side_px": side}
            measure = partial(compare, partial(LOADERS[name], folder), known, min_cpu_s, True, facts)
            if name == "ray-data":
                with connect(RayConfig(num_cpus=2, object_store_mb=1000)):
                    measure()
            else:
                measure()


if __name__ == "__main__":
    main()
