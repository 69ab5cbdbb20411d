"""Ray Train around the loop: one process per GPU or CPU group, each running the same function.

The driver plans (`emixer.training.plan`); each worker builds the model, finds its position in the data and trains.
Checkpoints go straight to the run folder, which all nodes must see; after a failure Ray restarts the workers, which
resume from the last checkpoint.
"""

import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from emixer import files
from emixer.config.training import ScheduleConfig
from emixer.data.loader import read_ahead
from emixer.errors import ConfigError, DivergenceError
from emixer.ray_session import capacity, is_one_machine, quiet_data, require_resource
from emixer.run_folder import RunFolder
from emixer.training.gradients import rank
from emixer.training.loop import State
from emixer.training.plan import TrainPlan, train_from_last
from emixer.training.process_group import process_group
from emixer.training.save_ahead import save_before_moves

_DIVERGED = "diverged.txt"


def run_workers(plan: TrainPlan[State]) -> None:
    """Train on `train.num_workers` Ray workers up to `train.images`.

    Raises ConfigError when the workers do not fit on this machine, DivergenceError, or a worker's error after
    `train.max_failures` restarts.
    """
    schedule = plan.schedule
    (plan.run / _DIVERGED).unlink(missing_ok=True)
    use_gpu = uses_gpu(schedule)
    require_room(schedule)
    resources = {"CPU": float(schedule.cpus_per_worker)} | ({"GPU": schedule.gpus_per_worker} if use_gpu else {})
    most = schedule.worker_range[1]
    trainer = TorchTrainer(
        partial(_train_worker, plan),
        torch_config=process_group(use_gpu),
        scaling_config=ScalingConfig(
            num_workers=schedule.num_workers,
            elastic_resize_monitor_interval_s=schedule.resize_every_s,
            use_gpu=use_gpu,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(plan.run.resolve()),
            failure_config=FailureConfig(max_failures=schedule.max_failures),
        ),
    )
    with _set_for_ray_train(), save_before_moves(RunFolder(plan.run), resources, most, schedule.resize_every_s):
        _fit(trainer)
    if (plan.run / _DIVERGED).exists():
        raise DivergenceError((plan.run / _DIVERGED).read_text(encoding="utf-8"))


def require_room(schedule: ScheduleConfig) -> None:
    """Raise ConfigError if even the fewest workers that the schedule allows will never find CPUs, or GPUs."""
    workers, cpus, gpus = schedule.worker_range[0], schedule.cpus_per_worker, schedule.gpus_per_worker
    asked = f"num_workers={schedule.workers_in_words} with"
    require_resource("CPU", workers * cpus, f"{asked} cpus_per_worker={cpus}. Lower either, or join a larger cluster.")
    if uses_gpu(schedule):
        if schedule.gpus_per_worker <= 0.5 and schedule.worker_range[1] > 1:
            raise ConfigError(
                f"{asked} gpus_per_worker={gpus:g} puts two workers on one GPU, which NCCL refuses. Use whole GPUs, or "
                "one worker."
            )
        remedy = "Lower either, join a larger cluster, or set use_gpu=false."
        require_resource("GPU", workers * gpus, f"{asked} gpus_per_worker={gpus:g}. {remedy}")


def uses_gpu(schedule: ScheduleConfig) -> bool:
    """Return whether workers get GPUs: as the schedule says, or if the cluster has any."""
    return bool(capacity().get("GPU")) if schedule.use_gpu is None else schedule.use_gpu


def _fit(trainer: TorchTrainer) -> None:
    """Run `trainer.fit()` in a thread, where Ray Train leaves Ctrl-C to the caller.

    In the main thread it (2.60) sets a handler that gives up what is not saved, then ends the process without a word.
    """
    ended: Future[None] = Future()

    def fit() -> None:
        try:
            trainer.fit()
            ended.set_result(None)
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            ended.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()
    ended.result()


@contextmanager
def _set_for_ray_train() -> Iterator[None]:
    """Set what Ray Train reads only from the environment, unless the user has set it."""
    wanted = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}  # how soon it sees that workers have finished; default: 2 s
    if is_one_machine():
        wanted["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"  # a process that checks whether workers must move
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _train_worker(plan: TrainPlan[State]) -> None:
    logging.getLogger("emixer").setLevel(logging.INFO)
    quiet_data()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(plan.schedule.cpus_per_worker)
    try:
        train_from_last(plan, device, partial(read_ahead, plan.reader, num_tasks=plan.config.data.read_tasks))
    except DivergenceError as error:
        # Every worker sees the same losses, and a restart would diverge again: end the run instead of failing it
        if rank() == 0:
            files.write_text(plan.run / _DIVERGED, error.message)
