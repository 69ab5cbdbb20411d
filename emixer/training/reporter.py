"""What a run writes during training: metrics.jsonl, TensorBoard, samples, checkpoints. Only the first worker writes."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist

from emixer import checkpoint, files
from emixer.data.order import DataOrder
from emixer.models.noise import RowNoise
from emixer.models.paired_model import GeneratedPairs, PairedModel
from emixer.models.workers import rank, world_size
from emixer.run_folder import RunFolder
from emixer.training.loop import TrainableState
from emixer.training.state import TrainState
from emixer.training.trackers import Tracker, open_trackers

SAMPLE_STEP = 2**62
"""Noise step of sample grids: the same noise each time, so that a viewer sees each image develop."""

Draw = Callable[[RunFolder, TrainState, GeneratedPairs, torch.Tensor], None]
Measure = Callable[[PairedModel], dict[str, float]]


class Recorder:
    """Writer of metrics and checkpoints of any state to a run folder."""

    def __init__(self, folder: RunFolder, state: TrainableState, order: DataOrder) -> None:
        self._folder, self._state, self._order = folder, state, order
        self._validation: dict[str, float] = {}
        self._validated_at = self._saved_at = -1
        self._trackers: list[Tracker] = []
        if rank() == 0:
            files.remove_partials(folder.checkpoints)  # of a worker that was killed while it saved
            folder.forget_after(state.images)
            self._trackers = open_trackers(folder, state.schedule.trackers, state.images)

    def log(self, values: dict[str, float]) -> None:
        """Write one line of losses and rates."""
        self._write(values | {"epochs": self._order.epochs(self._state.position)})

    def save(self) -> None:
        """Write a checkpoint from which the run can resume."""
        self._save(is_best=False)

    def save_is_requested(self) -> bool:
        """Return whether the run folder holds a request; checked by the first worker."""
        return rank() == 0 and self._folder.save_is_requested

    def stop_is_requested(self) -> bool:
        """Return whether the run folder holds a stop request; checked by the first worker."""
        return rank() == 0 and self._folder.stop_is_requested

    def stopped(self) -> None:
        """Clear the stop request."""
        if rank() == 0:
            self._folder.answer_stop_request()
        wait_for_all()

    def finish(self) -> None:
        """Do nothing."""

    def close(self, has_failed: bool) -> None:
        """Send what trackers have not sent yet, and how the training ended."""
        for tracker in self._trackers:
            tracker.close(has_failed)

    def _keep_if_best(self, value: float) -> None:
        """Save a checkpoint as the best if the first worker's `value` is lower than any before."""
        before = math.inf if self._state.best is None else self._state.best
        best = torch.tensor([min(value, before), float(value < before)], dtype=torch.float64)
        best = _from_first(best, next(self._state.model.parameters()).device)
        if math.isfinite(best[0]):
            self._state.best = best[0].item()
        if best[1]:
            self._save(is_best=True)

    def _record_validation(self, metrics: dict[str, float]) -> None:
        self._validation, self._validated_at = _finite(metrics), self._state.images
        self._write({f"validation/{name}": value for name, value in metrics.items()})

    def _save(self, is_best: bool) -> None:
        if rank() == 0:
            folder, state = self._folder.checkpoints, self._state
            if is_best or self._saved_at != state.images:  # else the validation pass has saved it as the best
                measured = self._validation if self._validated_at == state.images else {}
                described = state.describe() | {"validation": measured}
                checkpoint.save_checkpoint(folder, state.images, state.parts(), described, is_best)
                self._saved_at = state.images
            checkpoint.prune(folder)
            self._folder.answer_save_request()
        wait_for_all()

    def _write(self, values: dict[str, float]) -> None:
        if rank() != 0:
            return
        finite = _finite(values)
        self._folder.append_metrics({"images": self._state.images, **finite})
        for tracker in self._trackers:
            tracker.log(finite, self._state.images)


class RunReporter(Recorder):
    """Reporter of a GAN run. `draw` renders pairs, `measure` computes validation metrics; both are passed in, since
    rendering and metrics belong to other packages."""

    def __init__(self, folder: RunFolder, state: TrainState, order: DataOrder, draw: Draw, measure: Measure) -> None:
        super().__init__(folder, state, order)
        self._game = state
        self._draw, self._measure = draw, measure

    def sample(self) -> None:
        """Draw a grid of pairs from the averaged networks, always with the same noise and labels."""
        state = self._game
        if rank() == 0:
            rows = state.config.validation.sample_rows * 4
            noise = RowNoise(state.config.seed, SAMPLE_STEP, 0, rows, state.device)
            labels_BY = state.prior.draw(noise.uniform("labels"))
            with averaged(state) as model:
                pairs = model.sample(labels_BY, noise, state.config.generate.temperature)
            self._draw(self._folder, state, pairs, labels_BY)
        wait_for_all()

    def validate(self) -> None:
        """Measure the averaged networks and keep the best value, identically on every worker."""
        state, value = self._game, math.inf
        if rank() == 0:
            with averaged(state) as model:
                self._record_validation(self._measure(model))
            metric = state.phases.selects_by(state.config.validation.metric)
            encoder = state.config.validation.encoder
            # Random features may prefer blur to ribs: their FID is reported, but does not select the best
            if state.phases.is_last(state.progress) and not (metric == "fid" and encoder is None):
                value = next((v for name, v in self._validation.items() if name.startswith(metric)), math.inf)
        self._keep_if_best(value)


@contextmanager
def averaged(state: TrainState) -> Iterator[PairedModel]:
    """The model with its moving averages in place, in eval mode, for the duration of a block."""
    try:
        with state.ema.in_place(state.model):
            yield state.model.eval()
    finally:
        state.model.train()


def wait_for_all() -> None:
    """Wait until every worker gets here."""
    if world_size() > 1:
        dist.barrier()


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Those that JSON can hold."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _from_first(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if world_size() == 1:
        return tensor
    shared = tensor.to(device)
    dist.broadcast(shared, src=0)
    return shared.cpu()
