"""The training loop: from the current state to `train.images` images. Independent of Ray, files and metrics.

Periodic actions (log, sample, validate, save) are passed in as functions, so that this file is the outline of a run
and need not import siblings of this package.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from emixer.checkpoint import Checkpoint
from emixer.config.training import EncoderConfig, TrainConfig
from emixer.data.loader import BatchStream, HostBatch
from emixer.data.order import Position
from emixer.errors import DivergenceError
from emixer.losses.terms import Terms
from emixer.training.gradients import sum_over_workers


class TrainableState(Protocol):
    """What is trained: networks, optimizers, counters. Implemented by `TrainState` and `EncoderState`."""

    position: Position
    best: float | None

    @property
    def schedule(self) -> TrainConfig | EncoderConfig:
        """Length, intervals and workers of the run."""
        ...

    @property
    def sample_every_images(self) -> int | None:
        """Interval of sample grids [images]; None: no grids."""
        ...

    @property
    def remedy(self) -> str:
        """Settings to lower or change when losses are not finite."""
        ...

    @property
    def model(self) -> nn.Module:
        """Everything that is trained."""
        ...

    @property
    def iteration(self) -> int:
        """Iterations so far."""
        ...

    @property
    def images_per_iteration(self) -> int:
        """Real images per iteration."""
        ...

    @property
    def images(self) -> int:
        """Real images seen so far."""
        ...

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of a checkpoint, by file."""
        ...

    def describe(self) -> dict[str, Any]:
        """The JSON part of a checkpoint."""
        ...

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint. Raises CheckpointError when it is damaged or belongs to another model."""
        ...


_SAVE, _STOP = "save is requested", "stop is requested"

State = TypeVar("State", bound=TrainableState)

Advance = Callable[[State, Iterator[HostBatch]], Terms]
"""Train a state for one iteration. Returns the loss terms of this worker's rows, weighted so that their sum over
workers is the mean over the global batch: device scalars, no host sync."""


class Reporter(Protocol):
    """What a run does besides training. Called on every worker; only the first one writes."""

    def log(self, values: dict[str, float]) -> None:
        """Record the mean loss terms and rates since the last call."""

    def sample(self) -> None:
        """Draw a grid of pairs."""

    def validate(self) -> None:
        """Measure the model; may update its `best`."""

    def save(self) -> None:
        """Write a checkpoint."""

    def save_is_requested(self) -> bool:
        """Return whether an extra checkpoint has been requested. Only the first worker's answer counts."""
        ...

    def stop_is_requested(self) -> bool:
        """Return whether the run has been asked to stop early. Only the first worker's answer counts."""
        ...

    def stopped(self) -> None:
        """Called once, after the checkpoint of a run that was asked to stop; `finish` follows only at the run's end."""

    def finish(self) -> None:
        """Called once, after the last checkpoint."""

    def close(self, has_failed: bool) -> None:
        """Called once, however the training ends. has_failed: by an exception."""


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


def train(state: State, advance: Advance[State], stream: BatchStream, reporter: Reporter) -> None:
    """Train up to the schedule's number of images.

    Raises DivergenceError at the first log line whose losses are not finite; nothing is saved from then on.
    """
    schedule = state.schedule
    clock = _Clock(time.perf_counter())
    batches = clock.timed(stream)
    sums: Terms = {}
    counts: Counter[str] = Counter()
    logged_at = state.iteration
    while state.images < schedule.images:
        before = state.images
        for name, value in advance(state, batches).items():
            sums[name] = sums[name] + value if name in sums else value
            counts[name] += 1  # not every phase of a run has every term
        state.position = stream.position
        due = _due(state, before)
        asked = stop = False
        if due(schedule.log_every_images) or due(schedule.save_every_images):  # losses are checked before a save
            device = next(iter(sums.values())).device
            for name, is_requested in {_SAVE: reporter.save_is_requested, _STOP: reporter.stop_is_requested}.items():
                sums[name], counts[name] = torch.full((), float(is_requested()), device=device), 1
            values = _averages(state, sums, counts, clock, state.iteration - logged_at)
            # summed over workers with the losses, so that all of them save, or none
            stop = values.pop(_STOP) > 0
            asked = values.pop(_SAVE) > 0 or stop
            reporter.log(values)
            sums, counts, logged_at = {}, Counter(), state.iteration
        if asked or due(schedule.save_every_images) or due(schedule.validate_every_images):
            _require_finite_weights(state)
        if state.sample_every_images and due(state.sample_every_images):
            reporter.sample()
        if due(schedule.validate_every_images):
            reporter.validate()
        if asked or due(schedule.save_every_images):
            reporter.save()
        if stop:
            reporter.stopped()
            if state.images < schedule.images:
                return
    reporter.finish()


def _due(state: TrainableState, before: int) -> Callable[[int], bool]:
    """Return a test whether an interval of that many images ended with the last iteration; all end with the run."""
    last = state.images >= state.schedule.images
    return lambda every: last or state.images // every > before // every


def _averages(
    state: TrainableState, sums: Terms, counts: Counter[str], clock: _Clock, iterations: int
) -> dict[str, float]:
    names = sorted(sums)
    means = sum_over_workers(torch.stack([sums[name].float() / counts[name] for name in names]))
    values = dict(zip(names, means.tolist(), strict=True))  # the host waits for the device here, once per log line
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise _divergence(state, ", ".join(broken))
    now = time.perf_counter()
    elapsed_s = now - clock.start
    values["images_per_s"] = iterations * state.images_per_iteration / elapsed_s
    values["wait_share"] = clock.waited_s / elapsed_s
    clock.start, clock.waited_s = now, 0.0
    return values


def _require_finite_weights(state: TrainableState) -> None:
    """Check weights before they are saved: a step with finite losses can still make them infinite."""
    weights = [p.detach() for p in state.model.parameters()]
    if not bool(torch.stack([w.isfinite().all() for w in weights]).all()):
        raise _divergence(state, "weights")


def _divergence(state: TrainableState, what: str) -> DivergenceError:
    return DivergenceError(
        f"Training diverged after {state.images:,} images: {what} not finite. The last checkpoint is intact. "
        f"Start a new run with lower learning rates ({state.remedy}), or precision=bf16 instead of fp16."
    )
