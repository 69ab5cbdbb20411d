"""The training loop: from wherever the state stands to `train.images` films. Knows nothing of Ray, files or metrics.

What happens at an interval (log, sample, validate, save) is given as functions, so that this file is the outline of a
run and siblings of this package need not be imported.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from emixer.data.loader import BatchStream, HostBatch
from emixer.errors import DivergenceError
from emixer.training.gradients import sum_over_workers
from emixer.training.state import TrainState
from emixer.training.step import Terms, train_iteration


class Reporter(Protocol):
    """What a run does besides learning. Called on every worker; only the first one writes."""

    def log(self, state: TrainState, values: dict[str, float]) -> None:
        """Records the mean loss terms and rates since the last call."""

    def sample(self, state: TrainState) -> None:
        """Draws a grid of pairs."""

    def validate(self, state: TrainState) -> None:
        """Measures the model; may update `state.best`."""

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint."""


@dataclass
class _Clock:
    """Time since the last log line, and how much of it was spent waiting for data."""

    start: float
    waited_s: float = 0.0

    def timed(self, batches: Iterator[HostBatch]) -> Iterator[HostBatch]:
        while True:
            before = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - before
            yield batch


def train(state: TrainState, stream: BatchStream, reporter: Reporter) -> None:
    """Trains up to `train.images` films.

    Raises DivergenceError at the first log line whose losses are not finite; nothing is saved from then on.
    """
    schedule = state.config.train
    clock = _Clock(time.perf_counter())
    batches = clock.timed(stream)
    sums: Terms = {}
    counts: Counter[str] = Counter()
    logged_at = state.iteration
    while state.images < schedule.images:
        before = state.images
        for name, value in train_iteration(state, batches).items():
            sums[name] = sums[name] + value if name in sums else value
            counts[name] += 1  # not every phase of a run has every term
        state.position = stream.position
        due = _due(state, before)
        if due(schedule.log_every_images) or due(schedule.save_every_images):  # losses are checked before a save
            reporter.log(state, _averages(state, sums, counts, clock, state.iteration - logged_at))
            sums, counts, logged_at = {}, Counter(), state.iteration
        if due(schedule.save_every_images) or due(schedule.validate_every_images):
            _require_finite_weights(state)
        if due(schedule.sample_every_images):
            reporter.sample(state)
        if due(schedule.validate_every_images):
            reporter.validate(state)
        if due(schedule.save_every_images):
            reporter.save(state)


def _due(state: TrainState, before: int) -> Callable[[int], bool]:
    """Whether an interval of so many films ended with the last iteration; all end with the run."""
    last = state.images >= state.config.train.images
    return lambda every: last or state.images // every > before // every


def _averages(state: TrainState, sums: Terms, counts: Counter[str], clock: _Clock, iterations: int) -> dict[str, float]:
    names = sorted(sums)
    means = sum_over_workers(torch.stack([sums[name].float() / counts[name] for name in names]))
    values = dict(zip(names, means.tolist(), strict=True))  # the host waits for the device here, once a log line
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise _divergence(state, ", ".join(broken))
    now = time.perf_counter()
    elapsed_s = now - clock.start
    values["images_per_s"] = iterations * state.images_per_iteration / elapsed_s
    values["wait_share"] = clock.waited_s / elapsed_s
    clock.start, clock.waited_s = now, 0.0
    return values


def _require_finite_weights(state: TrainState) -> None:
    """A step can make weights infinite whose losses were still finite: look before they are saved."""
    weights = [p.detach() for p in state.model.parameters()]
    if not bool(torch.stack([w.isfinite().all() for w in weights]).all()):
        raise _divergence(state, "weights")


def _divergence(state: TrainState, what: str) -> DivergenceError:
    return DivergenceError(
        f"Training diverged after {state.images:,} films: {what} not finite. The last checkpoint is intact. "
        "Start a new run with lower learning rates (optim.lr_*), train.precision=bf16 instead of fp16, "
        "or loss.adversarial=hinge."
    )
