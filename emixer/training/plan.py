"""What is trained, and how one process trains it: in a worker of Ray Train (`emixer.training.workers`), or alone.

Independent of Ray: training in one process needs none.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch
from torch import distributed

from cluster.files import FreshView
from emixer.checkpoint import find_checkpoint, newest_readable
from emixer.config import Config
from emixer.config.training import EncoderConfig, TrainConfig
from emixer.data.loader import BatchStream, HostBatch, WindowReader
from emixer.errors import CheckpointError
from emixer.models.batch_norm import set_synchronized
from emixer.models.workers import rank, world_size
from emixer.run_folder import RunFolder
from emixer.training.kernels import use_fast_kernels
from emixer.training.loop import Advance, Reporter, State, train

MakeReporter = Callable[["TrainPlan[State]", State], Reporter]

ReadWindows = Callable[[Iterable[int]], Iterator[HostBatch]]


@dataclass(frozen=True)
class TrainPlan(Generic[State]):
    """Everything a worker needs. Picklable."""

    config: Config
    schedule: TrainConfig | EncoderConfig
    reader: WindowReader
    run: Path
    make_state: Callable[["TrainPlan[State]", torch.device], State]
    """The state of a fresh run; called on every worker with the same seed."""
    advance: Advance[State]
    make_reporter: MakeReporter[State]


def train_from_last(plan: TrainPlan[State], device: torch.device, windows: ReadWindows) -> None:
    """Train as one worker, in a process group or alone: restore the last checkpoint, if any, and train to the end.

    windows: reads windows by number, see `BatchStream`.
    """
    use_fast_kernels()
    torch.manual_seed(plan.config.seed)  # the same initial weights on every worker
    state = plan.make_state(plan, device)
    set_synchronized(state.model, plan.schedule.sync_batch_norm)
    folder = RunFolder(plan.run)
    FreshView(folder.checkpoints).refresh()
    checkpoint = find_checkpoint(folder.checkpoints, "last") or newest_readable(folder.checkpoints)
    if checkpoint is not None:
        state.restore(checkpoint)
        state.position = plan.reader.order.for_workers(state.position, world_size())
    _require_same_start(state.images, device)
    rows = plan.schedule.batch_size // world_size()
    iterations = -(-(plan.schedule.images - state.images) // state.images_per_iteration)
    images = iterations * state.images_per_iteration // world_size()
    stream = BatchStream(plan.reader, rows, state.position, rank(), windows, images)
    reporter = plan.make_reporter(plan, state)
    has_failed = True
    try:
        train(state, plan.advance, stream, reporter)
        has_failed = False
    finally:
        reporter.close(has_failed)


def _require_same_start(images: int, device: torch.device) -> None:
    """Raises CheckpointError, after which Ray starts all again, where workers begin at different points: on a shared
    disk, a node may not see the first checkpoint of another one yet."""
    if world_size() == 1:
        return
    ends = torch.tensor([images, -images], dtype=torch.int64, device=device)
    distributed.all_reduce(ends, distributed.ReduceOp.MAX)
    last, first = ends[0].item(), -ends[1].item()
    if first != last:
        raise CheckpointError(
            f"Some workers found the checkpoint of {last:,} images and others that of {first:,}. The run folder must "
            "be on a disk that shows all nodes the same files; on NFS this passes within a minute."
        )
