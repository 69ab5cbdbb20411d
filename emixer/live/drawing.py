"""From a request to pairs: the same pairs that `emixer generate` writes for its seed, labels and conditions.

Shapes: N pairs, L labels.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from emixer.errors import EmixerError
from emixer.generation.label_names import label_vector
from emixer.generation.pairs import Pairs
from emixer.generation.sampler import Sampler
from emixer.live.draw_request import DrawRequest
from emixer.web.requests import RefusedError

logger = logging.getLogger(__name__)

_MAX_WAITING = 8
_RETRY_S = 2
_T = TypeVar("_T")


@dataclass(frozen=True)
class Drawn:
    """Pairs of a page or a sheet, in reading order."""

    pairs: Pairs
    captions: tuple[tuple[str, ...], ...]
    columns: int
    """Columns of a sheet."""


class DrawingThread:
    """A model and the single thread that samples from it, so that the server stays responsive."""

    def __init__(self, sampler: Sampler, cpus: int) -> None:
        self.sampler = sampler
        self._waiting = 0
        self._executor = ThreadPoolExecutor(1, "drawing", initializer=torch.set_num_threads, initargs=(cpus,))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Run `work` in the thread.

        Raises RefusedError if too many wait, for unknown labels or values, or if the GPU has too little free memory.
        """
        if self._waiting >= _MAX_WAITING:
            raise RefusedError(
                429, f"{self._waiting} others are waiting for this model. Please try again in a moment.", _RETRY_S
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except EmixerError as error:
            raise RefusedError(422, str(error)) from error
        except torch.OutOfMemoryError as error:
            logger.error("Too little free GPU memory: %s", str(error).splitlines()[0])
            raise RefusedError(
                503,
                "The server's GPU has too little free memory just now. Ask for fewer pairs, or try again later.",
                _RETRY_S,
            ) from error
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread after its current work; waiting work is cancelled."""
        self._executor.shutdown(cancel_futures=True)


def draw(sampler: Sampler, wanted: DrawRequest) -> Drawn:
    """Sample the pairs of a request. Raises ConfigError for a label or value unknown to the model."""
    drawers = {"pairs": _drawn_pairs, "swap": _swapped, "interpolation": _interpolated}
    return drawers[wanted.kind](sampler, wanted)


def _drawn_pairs(sampler: Sampler, wanted: DrawRequest) -> Drawn:
    pairs = _sample(sampler, wanted)
    return Drawn(pairs, _captions(pairs), columns=4)


def _swapped(sampler: Sampler, wanted: DrawRequest) -> Drawn:
    """Each pair, followed by one of the same noise and conditions with the label swapped."""
    assert wanted.swapped is not None, "the request was checked"
    toggled_L = label_vector([wanted.swapped], sampler.label_names)
    pairs = _sample(sampler, wanted)
    others = sampler.relabel(pairs, pairs.labels.astype(np.uint8) ^ toggled_L, wanted.seed, wanted.temperature)
    both = _alternating(pairs, others)
    return Drawn(both, _captions(both), columns=2)


def _interpolated(sampler: Sampler, wanted: DrawRequest) -> Drawn:
    pairs = sampler.interpolate(
        wanted.labels,
        wanted.to_labels,
        wanted.steps,
        wanted.seed,
        wanted.temperature,
        sex=wanted.sex,
        age=wanted.age,
        view=wanted.view,
    )
    captions = [[f"{step / (wanted.steps - 1):.0%}"] for step in range(wanted.steps)]
    captions[0] += wanted.labels or ["no label"]
    captions[-1] += wanted.to_labels or ["no label"]
    return Drawn(pairs, tuple(map(tuple, captions)), columns=wanted.steps)


def _sample(sampler: Sampler, wanted: DrawRequest) -> Pairs:
    return sampler.sample(
        wanted.labels, wanted.num, wanted.seed, wanted.temperature, sex=wanted.sex, age=wanted.age, view=wanted.view
    )


def _alternating(ones: Pairs, others: Pairs) -> Pairs:
    shape = (2 * len(ones), *ones.images.shape[1:])
    return replace(
        ones,
        images=np.stack([ones.images, others.images], axis=1).reshape(shape),
        reports=[report for both in zip(ones.reports, others.reports, strict=True) for report in both],
        labels=np.stack([ones.labels, others.labels], axis=1).reshape(len(ones) * 2, -1).astype(np.uint8),
        conditions={name: np.repeat(values, 2) for name, values in ones.conditions.items()},
        rows=np.repeat(ones.rows, 2),
    )


def _captions(pairs: Pairs) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(pairs.caption(index)) for index in range(len(pairs)))
