"""Rows/s from shards to a normalised torch batch: ours through Ray Data, against two peers in the same run.

    python benchmarks/loader.py [--images 40000] [--side-px 64] [--jpeg-images 4000]

bare    pyarrow reads row groups in shuffled order, numpy permutes each and scales it: what the disk format allows.
jpeg    torch DataLoader (two processes) decodes JPEGs of the same images with Pillow: what most projects do.
Images are procedural (smooth noise), so that JPEGs have an image's size; reports are drawn from 400 words.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peer_measure import tree_cpu_s
from PIL import Image
from torch import Tensor

from emixer.config import Config, RayConfig
from emixer.data.labels import CHEXPERT
from emixer.data.loader import BatchStream, fixed_binary_view, open_windows, read_ahead
from emixer.data.order import Position
from emixer.data.schema import ShardInfo
from emixer.data.shards import ShardSet, shard_name, write_shard
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.files import sha256_of
from emixer.ray_session import connect
from emixer.training.step import to_device

WORDS = [f"word{i}" for i in range(400)]
BATCH, MAX_SENTENCES, MAX_WORDS = 256, 8, 20


class Cost(NamedTuple):
    """Of reading, over a whole pass."""

    images_per_s: float
    cpu_us: float
    """User and system time an image, of this process and all below it."""


def main() -> None:
    """Writes images, times the three readers in turn, three rounds, prints the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--side-px", type=int, default=64)
    parser.add_argument("--jpeg-images", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = write_images(Path(folder), args.images, args.side_px)
        jpegs = encode_jpegs(shards, args.jpeg_images)
        with connect(RayConfig(num_cpus=2, object_store_mb=1000)):
            readers: dict[str, Callable[[], Cost]] = {
                "ours (Ray Data, images + labels + reports)": lambda: ours(shards, args.images * 10),
                "bare pyarrow + numpy, the same columns": lambda: bare(shards, reports=True),
                "bare pyarrow + numpy, images only": lambda: bare(shards, reports=False),
                "torch DataLoader over JPEG, images only": lambda: jpeg_loader(jpegs),
            }
            costs = {name: np.array([reader() for _ in range(args.rounds)]) for name, reader in readers.items()}
    medians = {name: np.median(values, axis=0) for name, values in costs.items()}
    own_rate, own_cpu_us = medians["ours (Ray Data, images + labels + reports)"]
    print(f"\n{args.images:,} images at {args.side_px} px, batch {BATCH}, median of {args.rounds} rounds")
    for name, (rate, cpu_us) in medians.items():
        print(
            f"  {name:<45} {rate:>10,.0f} images/s   ours / this = {own_rate / rate:.2f}   "
            f"{cpu_us:>6.1f} CPU us an image, this / ours = {cpu_us / own_cpu_us:.2f}"
        )


def ours(shards: ShardSet, num_rows: int) -> Cost:
    """Of the training loader, its first window excluded (it runs while a model is built)."""
    reader = open_windows(shards, "train", Config().data, 0, MAX_SENTENCES, MAX_WORDS)
    stream = BatchStream(reader, BATCH, Position(1), 0, partial(read_ahead, reader, num_tasks=2))
    to_device(next(stream), torch.device("cpu"))
    return timed(len(to_device(next(stream), torch.device("cpu"))) for _ in range(num_rows // BATCH))


def bare(shards: ShardSet, reports: bool) -> Cost:
    """Of a hand-written reader of the same shards, shuffled the same way."""

    def batches() -> Iterator[int]:
        generator = np.random.default_rng(0)
        for file in generator.permutation([str(f) for f in shards.files("train")]):
            columns = ["image", "labels", "sentences"] if reports else ["image"]
            table = pq.read_table(file, columns=columns)
            order = generator.permutation(len(table))
            image = fixed_binary_view(table["image"], np.uint8, (shards.info.side_px,) * 2)
            if reports:
                words = shards.vocabulary.encode_sentences(table["sentences"], MAX_SENTENCES, MAX_WORDS)
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                batch: Tensor = torch.from_numpy(image[rows]).float().div_(127.5).sub_(1)
                if reports:
                    torch.from_numpy(words[rows]).long()
                yield len(batch)

    return timed(batches())


def jpeg_loader(jpegs: list[bytes]) -> Cost:
    """Of torch's DataLoader with two worker processes."""
    loader = torch.utils.data.DataLoader(_Jpegs(jpegs), batch_size=BATCH, shuffle=True, num_workers=2)
    return timed(len(batch) for batch in loader)


class _Jpegs(torch.utils.data.Dataset[Tensor]):
    def __init__(self, jpegs: list[bytes]) -> None:
        self.jpegs = jpegs

    def __len__(self) -> int:
        return len(self.jpegs)

    def __getitem__(self, index: int) -> Tensor:
        image = np.array(Image.open(io.BytesIO(self.jpegs[index])))
        return torch.from_numpy(image).float().div_(127.5).sub_(1).unsqueeze(0)


def timed(rows: Iterator[int]) -> Cost:
    """Of exhausting `rows`, which says how many images each step gave."""
    cpu_start, start = tree_cpu_s(), time.perf_counter()
    total = sum(rows)
    return Cost(total / (time.perf_counter() - start), (tree_cpu_s() - cpu_start) / total * 1e6)


def write_images(folder: Path, num_images: int, side_px: int) -> ShardSet:
    """A finished shard folder of procedural images: so many in train, 64 in validate."""
    info = ShardInfo(side_px, CHEXPERT, "none", 1, "benchmark")
    generator = np.random.default_rng(0)
    entries = []
    train = [("train", start // 4096, start, min(4096, num_images - start)) for start in range(0, num_images, 4096)]
    for split, shard, start, count in [*train, ("validate", 0, num_images, 64)]:
        path = folder / shard_name(split, shard)
        table = _images(generator, split, start, count, side_px, info)
        write_shard(path, table, info, max(1, 4 * 2**20 // side_px**2))
        entries.append({
            "name": path.name, "split": split, "num_rows": len(table), "num_bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        })  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"shards": entries}))
    Vocabulary(SPECIAL_TOKENS + tuple(WORDS)).save(folder / "vocabulary.json")
    return ShardSet.open(folder)


def _images(
    generator: np.random.Generator, split: str, start: int, count: int, side_px: int, info: ShardInfo
) -> pa.Table:
    coarse = generator.integers(0, 256, (count, side_px // 8, side_px // 8), dtype=np.uint8)
    sharp_NHW = coarse.repeat(8, axis=1).repeat(8, axis=2)
    image_NHW = (sharp_NHW // 2 + np.roll(sharp_NHW, 4, axis=(1, 2)) // 2).astype(np.uint8)
    ids = [f"{i:08d}" for i in range(start, start + count)]
    sentences = [[list(generator.choice(WORDS, 9)) for _ in range(5)] for _ in range(64)]
    return pa.table(
        {
            "dicom_id": ids, "study_id": ids, "subject_id": ids, "view": ["PA"] * count, "split": [split] * count,
            "image": pa.array([image.tobytes() for image in image_NHW], pa.binary(side_px**2)),
            "report": ["-"] * count,
            "sentences": [sentences[i % 64] for i in range(count)],
            "labels": generator.integers(0, 2, (count, len(CHEXPERT)), dtype=np.int8).tolist(),
            "source": ["benchmark"] * count,
        },
        schema=info.arrow_schema(),
    )  # fmt: skip


def encode_jpegs(shards: ShardSet, count: int) -> list[bytes]:
    """The first images as JPEG files in memory (the disk is not what is measured)."""
    reader = open_windows(shards, "train", Config().data, 0, MAX_SENTENCES, MAX_WORDS)
    jpegs = []
    for image in reader.read_rows(count).image:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=95)
        jpegs.append(buffer.getvalue())
    return jpegs


if __name__ == "__main__":
    main()
