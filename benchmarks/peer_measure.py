"""What a loader costs and whether it resumes exactly, the same for ours and for others'. Nothing to run.

Runs in the environments of the peers too, so it imports nothing of ours. CPU seconds are user and system time of this
process and of all below it, those among them that have ended. Memory is their proportional set size: what several
share counts once.
"""

import json
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from worker_memory import descendants

BATCH = 128
_BATCHES_BEFORE_STOP = 3
_MAX_EPOCHS = 500


class Batch(NamedTuple):
    """image_BCHW uint8, since scaling costs the same for all; reports: texts or token ids, None where not asked for."""

    image_BCHW: torch.Tensor
    reports: Any


class Loader:
    """A loader as its documentation has it: shuffled, batches of BATCH, in the process that trains."""

    def epoch(self) -> Iterator[Batch]:
        """One pass through the images; the next call gives the next pass."""
        raise NotImplementedError

    def state(self) -> Any:
        """Where it is, as JSON or pickle can store it; None: it cannot say."""
        return None

    def restore(self, state: Any) -> None:
        """Goes on from there, in a new loader."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives back what would be in the way of another loader of the same data."""


def as_batch(image_BHW: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W) as image_BCHW."""
    image = image_BHW if isinstance(image_BHW, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(image_BHW))
    return image.unsqueeze(1)


class Known:
    """Which image is which, by its pixels."""

    def __init__(self, images: Path) -> None:
        self._row_of = {image.tobytes(): row for row, image in enumerate(np.load(images, mmap_mode="r"))}

    def __len__(self) -> int:
        return len(self._row_of)

    def rows(self, batch: Batch) -> list[int]:
        """Raises ValueError when an image is none of the data's."""
        pixels = [image.tobytes() for image in batch.image_BCHW[:, 0].numpy()]
        if not self._row_of.keys() >= set(pixels):
            raise ValueError(f"images of {batch.image_BCHW.dtype} that are none of those that were stored")
        return [self._row_of[image] for image in pixels]


def measured(loader: Loader, known: Known, min_cpu_s: float) -> dict[str, float]:
    """Costs of whole passes after a first one, in which each image must come once and unchanged."""
    first = [row for batch in loader.epoch() for row in known.rows(batch)]
    assert set(first) == set(range(len(known))), "all images come"
    images = epochs = 0
    cpu_start, start = tree_cpu_s(), time.perf_counter()
    while tree_cpu_s() - cpu_start < min_cpu_s and epochs < _MAX_EPOCHS:
        images += sum(len(batch.image_BCHW) for batch in loader.epoch())
        epochs += 1
    cpu_s, wall_s = tree_cpu_s() - cpu_start, time.perf_counter() - start
    return {"images": images, "cpu_s": cpu_s, "wall_s": wall_s, "memory_mb": tree_memory_mb()}


def resumes(make: Any, known: Known) -> str:
    """exact: from the state of a loader that was stopped after some batches, a new one gives what was to come.

    make: opens a new loader.
    """
    loader = make()
    whole = [row for batch in loader.epoch() for row in known.rows(batch)]
    loader.close()
    loader = make()
    begun = [row for batch in islice(loader.epoch(), _BATCHES_BEFORE_STOP) for row in known.rows(batch)]
    state = loader.state()
    loader.close()
    if state is None:
        return "no state"
    loader = make()
    loader.restore(json.loads(json.dumps(state)))
    rest = [row for batch in loader.epoch() for row in known.rows(batch)]
    loader.close()
    if begun + rest == whole:
        return "exact"
    again, missing = len(set(begun) & set(rest)), len(set(whole) - set(begun) - set(rest))
    return f"not exact: {again} twice, {missing} missing of {len(known)}"


def tree_cpu_s() -> float:
    """User and system time so far."""
    ticks = 0
    for pid in (os.getpid(), *descendants(os.getpid())):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile, and its parent has its time
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def tree_memory_mb() -> float:
    """Proportional set size."""
    total_kb = 0
    for pid in (os.getpid(), *descendants(os.getpid())):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total_kb += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total_kb / 1024
