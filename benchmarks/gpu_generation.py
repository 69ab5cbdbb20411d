"""Generated pairs a second in one process: from label vectors to PNG bytes and report text.

    python benchmarks/gpu_generation.py --out FILE.json [--config configs/paper.yaml] [--batch-sizes 64 256 1024]
        [--seconds 8] [--threads N] [--set KEY=VALUE ...] [--device cuda]

drawn    pairs on the device and their copy to the host
encoded  PNG and text alone, in so many threads of the CPU
pairs    both, one piece being encoded while the next is drawn: what a sampler of `emixer generate` and its encoders do

Weights are random, and reports therefore as long as they can be; images of random weights are smooth, so that they
compress better than trained ones.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from random_model import random_model

from emixer.config import load_config
from emixer.files import write_json
from emixer.generation.encoding import encode_png
from emixer.generation.plan import make_plan
from emixer.generation.sampler import Sampler

REPOSITORY = Path(__file__).resolve().parents[1]
_TEMPERATURE = 0.7
Drawn = tuple[NDArray[np.uint8], NDArray[np.int32]]


class Encoders:
    """Threads that make PNG bytes of images, and one that makes text of words; zlib leaves Python's lock alone."""

    def __init__(self, sampler: Sampler, threads: int) -> None:
        self._vocabulary, self._threads = sampler.trained.vocabulary, threads
        self._pool = ThreadPoolExecutor(threads)

    def start(self, drawn: Drawn) -> list[Future[list[Any]]]:
        """Begins to encode a piece."""
        images_NHW, words_NSW = drawn
        shares = np.array_split(images_NHW, self._threads)
        return [
            *(self._pool.submit(encode_png, share) for share in shares if len(share)),
            self._pool.submit(self._vocabulary.decode, words_NSW),
        ]


def main() -> None:
    """Measures, prints, and writes a file of rows."""
    args = parser().parse_args()
    config = load_config(REPOSITORY / args.config, args.set)
    trained = random_model(config)
    facts = {"config": str(args.config), "side_px": config.model.side_px, "threads": args.threads}
    facts["device"] = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    rows = []
    for batch_size in args.batch_sizes:
        try:
            sampler = Sampler(trained, args.device, batch_size)
            rows.append({"batch": batch_size} | measured(sampler, args.threads, args.seconds))
        except torch.OutOfMemoryError:
            rows.append({"batch": batch_size, "failed": "out of memory"})
        print(json.dumps(rows[-1]), flush=True)
        write_json(args.out, {"facts": facts, "rows": rows})


def parser() -> argparse.ArgumentParser:
    """The words on the command line."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--config", type=Path, default=Path("configs/paper.yaml"), help="relative to the repository")
    words.add_argument("--batch-sizes", nargs="+", type=int, default=[64, 256, 1024])
    words.add_argument("--seconds", type=float, default=8.0, help="of drawing, and of drawing and encoding (8)")
    words.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="that encode")
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    words.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return words


def measured(sampler: Sampler, threads: int, seconds: float) -> dict[str, Any]:
    """Rates [pairs/s], and bytes of an image."""
    size, plan = sampler.batch_size, make_plan("train", (), sampler.trained.spec, 0)
    encoders = Encoders(sampler, threads)

    def draw(piece: int) -> Drawn:
        return sampler.draw(plan.labels(piece * size, size), piece * size, 0, _TEMPERATURE)

    drawn = draw(0)  # the device wakes up
    start, pieces = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        pieces += 1
        drawn = draw(pieces)
    drawn_per_s = pieces * size / (time.perf_counter() - start)
    start = time.perf_counter()
    *images, _ = [part.result() for part in encoders.start(drawn)]
    encoded_per_s = size / (time.perf_counter() - start)
    bytes_an_image = sum(len(image) for share in images for image in share) / size
    return {
        "pairs_per_s": round(together(draw, encoders, size, seconds), 1),
        "drawn_per_s": round(drawn_per_s, 1),
        "encoded_per_s": round(encoded_per_s, 1),
        "bytes_an_image": round(bytes_an_image),
    }


def together(draw: Callable[[int], Drawn], encoders: Encoders, size: int, seconds: float) -> float:
    """Pairs a second from labels to bytes; the last piece's bytes are waited for."""
    start, pieces = time.perf_counter(), 0
    pending: list[Future[list[Any]]] = []
    while time.perf_counter() - start < seconds:
        drawn = draw(pieces)
        pieces += 1
        for part in pending:
            part.result()
        pending = encoders.start(drawn)
    for part in pending:
        part.result()
    return pieces * size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
