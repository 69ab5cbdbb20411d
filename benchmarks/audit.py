"""Time and peak memory of `emixer audit`, and of its search for nearest neighbours alone beside plain torch.cdist.

    python benchmarks/audit.py [--rows 2000 10000] [--side-px 64]

Smooth random images: as many generated as training ones, a tenth as many held out, features of the small random
network; no reports. Each number of rows in a process of its own; CPU seconds are those of all
processes, Ray's start among them. The search alone: 256 numbers a row, against a
distance matrix by blocks and its minimum.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from worker_memory import Watch

from emixer.audit.search import Chunk, best_products
from emixer.config import load_config
from emixer.data.labels import CHEXPERT
from emixer.data.schema import ShardInfo
from emixer.data.shards import shard_name, write_shard
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.files import sha256_of
from emixer.generation.dataset_files import DATA_FOLDER, Layout, RowFormat, open_file
from emixer.generation.manifest import begin_manifest, fingerprint, finish_manifest
from emixer.stages import audit

_MIN_HELD_OUT = 300
_BLOCK, _CHUNK = 2048, 2048


def main() -> None:
    """One process for each number of rows, since a process does not give its peak back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000, 10_000])
    parser.add_argument("--side-px", type=int, default=64)
    args = parser.parse_args()
    if len(args.rows) == 1:
        measure(args.rows[0], args.side_px)
        return
    for rows in args.rows:
        command = [sys.executable, __file__, "--rows", str(rows), "--side-px", str(args.side_px)]
        subprocess.run(command, check=True)
    search_alone(max(args.rows))


def measure(rows: int, side_px: int) -> None:
    """Audits so many generated images against as many training ones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held_out = max(rows // 10, _MIN_HELD_OUT)
        shards = write_shards(folder / "shards", {"train": rows, "test": held_out}, side_px)
        dataset = write_dataset(folder / "dataset", rows, side_px)
        config = load_config(extra={"data.shards": shards, "audit.dataset": dataset})
        start, cpu_before_s = time.monotonic(), time.process_time()
        with Watch() as watch:
            audit.run(config)
        elapsed_s = time.monotonic() - start
    print(
        f"{rows:>8,} x {rows:,} images of {side_px} px: {elapsed_s:,.1f} s, {watch.cpu_s - cpu_before_s:,.0f} CPU s, "
        f"driver {watch.driver_mb:,.0f} MB, "
        f"largest worker {watch.worker_mb:,.0f} MB at peak"
    )


def search_alone(rows: int) -> None:
    """Seconds of a search by blocks, ours and torch.cdist's."""
    generator = torch.Generator().manual_seed(0)
    queries, references = (torch.randn(rows, 256, generator=generator) for _ in range(2))

    def ours(block: torch.Tensor) -> torch.Tensor:
        chunks = (Chunk(first, references[first : first + _CHUNK]) for first in range(0, rows, _CHUNK))
        return best_products(block[None], chunks, 3).product_QK

    def plain(block: torch.Tensor) -> torch.Tensor:
        return torch.cdist(block, references).topk(3, largest=False).values

    for name, search in (("ours", ours), ("torch.cdist and topk", plain)):
        start = time.monotonic()
        for first in range(0, rows, _BLOCK):
            search(queries[first : first + _BLOCK])
        print(f"{rows:>8,} x {rows:,} vectors of 256 numbers, 3 nearest, {name}: {time.monotonic() - start:.2f} s")


def smooth_images(num: int, side_px: int, seed: int) -> np.ndarray:
    """(num, side, side) uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 1, 12, 12, generator=generator)
    large = torch.nn.functional.interpolate(coarse, (side_px, side_px), mode="bicubic")
    return large[:, 0].mul(255).clamp(0, 255).to(torch.uint8).numpy()


def write_shards(folder: Path, counts: dict[str, int], side_px: int) -> Path:
    """A shard folder without reports; every image is of a subject of its own."""
    folder.mkdir()
    info = ShardInfo(side_px, CHEXPERT, "findings", 1, "benchmark")
    entries = []
    for seed, (split, num) in enumerate(counts.items()):
        ids = [f"{split}-{row}" for row in range(num)]
        images = [image.tobytes() for image in smooth_images(num, side_px, seed)]
        columns = {
            "dicom_id": ids, "study_id": ids, "subject_id": ids, "view": ["PA"] * num, "split": [split] * num,
            "image": pa.array(images, pa.binary(side_px**2)), "report": [None] * num, "sentences": [None] * num,
            "labels": [[0] * len(CHEXPERT)] * num, "source": ["benchmark"] * num,
        }  # fmt: skip
        path = folder / shard_name(split, 0)
        write_shard(path, pa.table(columns, schema=info.arrow_schema()), info, row_group_rows=1000)
        entries.append({"name": path.name, "split": split, "num_rows": num, "num_bytes": path.stat().st_size,
                        "sha256": sha256_of(path)})  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"shards": entries}))
    Vocabulary(SPECIAL_TOKENS).save(folder / "vocabulary.json")
    return folder


def write_dataset(folder: Path, num: int, side_px: int) -> Path:
    """A finished dataset of images without reports."""
    row_format, settings, layout = RowFormat(CHEXPERT, 0, "png"), {"rows": num}, Layout(num, 2048, 1024)
    images, labels = smooth_images(num, side_px, 7), np.zeros((num, len(CHEXPERT)), np.uint8)
    begin_manifest(folder, settings)
    for name, part in layout.files:
        where = slice(part.first, part.end)
        with open_file(folder / DATA_FOLDER / name, part, layout, row_format, fingerprint(settings)) as writer:
            writer.write(row_format.table(part.first, images[where], [""] * part.num, labels[where]))
    finish_manifest(folder, settings, layout, {"label_counts": dict.fromkeys(CHEXPERT, 0)})
    return folder


if __name__ == "__main__":
    main()
