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

from emixer.config.training import ScheduleConfig
from emixer.data.loader import read_ahead
from emixer.errors import ConfigError, DivergenceError, EmixerError
from emixer.models.workers import world_size
from emixer.ray_session import capacity, is_one_machine, keep_data_actors_here, quiet_data, require_resource
from emixer.run_folder import RunFolder
from emixer.training.loop import State
from emixer.training.plan import TrainPlan, train_from_last
from emixer.training.process_group import process_group
from emixer.training.save_ahead import save_before_moves


def run_workers(plan: TrainPlan[State]) -> None:
    """Train on `train.num_workers` Ray workers up to `train.images`.

    Raises ConfigError when the workers do not fit on this machine, DivergenceError, or a worker's error after
    `train.max_failures` restarts.
    """
    schedule = plan.schedule
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
    keep_data_actors_here()
    with (
        _set_for_ray_train(may_shrink=schedule.worker_range[0] < most),
        save_before_moves(RunFolder(plan.run), resources, most, schedule.resize_every_s),
    ):
        hopeless = _fit(trainer)
    if hopeless is not None:
        raise hopeless


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
        if schedule.gpus_per_worker < 1 and workers != schedule.worker_range[1]:
            raise ConfigError(
                f"{asked} gpus_per_worker={gpus:g}: a range needs whole GPUs, since Ray Train counts the workers that "
                "fit by the sum of all GPUs. Set gpus_per_worker=1, or a number of workers."
            )
        remedy = "Lower either, join a larger cluster, or set use_gpu=false."
        require_resource("GPU", workers * gpus, f"{asked} gpus_per_worker={gpus:g}. {remedy}")


def uses_gpu(schedule: ScheduleConfig) -> bool:
    """Return whether workers get GPUs: as the schedule says, or if the cluster has any."""
    return bool(capacity().get("GPU")) if schedule.use_gpu is None else schedule.use_gpu


def _fit(trainer: TorchTrainer) -> EmixerError | None:
    """Run `trainer.fit()` in a thread, where Ray Train leaves Ctrl-C to the caller. Returns what `_train_worker` does.

    In the main thread it (2.60) sets a handler that gives up what is not saved, then ends the process without a word.
    """
    ended: Future[EmixerError | None] = Future()

    def fit() -> None:
        try:
            ended.set_result(trainer.fit().return_value)
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            ended.set_exception(error)

    threading.Thread(target=fit, daemon=True).start()
    return ended.result()


@contextmanager
def _set_for_ray_train(may_shrink: bool) -> Iterator[None]:
    """Set what Ray Train reads only from the environment, unless the user has set it.

    may_shrink: whether it can go on with fewer workers than it has.
    """
    wanted = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}  # how soon it sees that workers have finished; default: 2 s
    if is_one_machine():
        wanted["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"  # a process that checks whether workers must move
    if may_shrink:  # it first waits for a node that it does not know to be dead, then counts again; default: 60 s
        wanted["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "20"
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _train_worker(plan: TrainPlan[State]) -> EmixerError | None:
    """Train as one of the workers. Returns the error that a restart would only repeat, None if there is none: what is
    raised here, Ray answers with a restart."""
    logging.getLogger("emixer").setLevel(logging.INFO)
    quiet_data()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(plan.schedule.cpus_per_worker)
    try:
        train_from_last(plan, device, partial(read_ahead, plan.reader, num_tasks=plan.config.data.read_tasks))
    except DivergenceError as error:
        return DivergenceError(error.message)  # on every worker
    except torch.OutOfMemoryError as error:
        schedule = plan.schedule
        full = ConfigError(
            f"The GPU's memory does not hold {schedule.batch_size // world_size() // schedule.accumulate} images at a "
            "time. Raise num_workers or accumulate, or check that nothing else uses the GPU."
        )
        if world_size() == 1:
            return full
        raise full from error  # other workers wait for this one, and Ray ends them only if it fails
    return None
