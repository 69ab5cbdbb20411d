"""What the driver of a training asks of its workers, and of the cluster."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from emixer.config import Config
from emixer.config.training import TrainConfig
from emixer.errors import ConfigError
from emixer.models.workers import world_size
from emixer.run_folder import RunFolder
from emixer.training.plan import TrainPlan
from emixer.training.process_group import process_group
from emixer.training.save_ahead import save_before_moves
from emixer.training.workers import require_room, run_workers


def test_training_that_still_runs_while_ray_ends_its_workers_keeps_its_group() -> None:
    """It would otherwise go on as the only worker, and save what comes of it."""

    class Workers(list[Any]):
        def execute_async(self, function: Any, **options: Any) -> list[Any]:
            function(**options)
            return []

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        config = process_group(use_gpu=False)
        config.backend_cls().on_shutdown(Workers([SimpleNamespace()] * 2), config)
        assert dist.is_initialized()
        assert world_size() == 1
    finally:
        dist.destroy_process_group()


@pytest.mark.ray
def test_work_of_a_run_without_checkpoint_is_saved_before_it_starts_again_with_more_workers(
    ray_cluster: None, tmp_path: Path
) -> None:
    folder = RunFolder.create_or_resume(tmp_path / "run", "train", Config())
    folder.append_metrics({"images": 400_000})
    with save_before_moves(folder, {"CPU": 1.0}, most=2, resize_every_s=60):
        end = time.monotonic() + 30
        while not folder.save_is_requested and time.monotonic() < end:
            time.sleep(0.1)
    assert folder.save_is_requested


@pytest.mark.ray
def test_range_of_workers_on_parts_of_gpus_is_refused(ray_cluster: None) -> None:
    schedule = TrainConfig(num_workers=(1, 2), use_gpu=True, gpus_per_worker=0.6, batch_size=12)
    with pytest.raises(ConfigError, match=r"gpus_per_worker=0\.6: a range needs whole GPUs"):
        require_room(schedule)


@pytest.mark.ray
def test_gpu_that_is_too_small_ends_a_run_of_one_worker_at_once(
    ray_cluster: None, tiny_config: Config, tmp_path: Path
) -> None:
    """A restart would only find it too small again."""

    def make_state(plan: object, device: object) -> None:
        with (tmp_path / "started").open("a") as file:
            file.write("once\n")
        raise torch.OutOfMemoryError("CUDA out of memory.")

    plan: Any = TrainPlan(tiny_config, tiny_config.train, None, tmp_path, make_state, None, None)  # type: ignore[arg-type]
    assert plan.schedule.max_failures > 0
    with pytest.raises(
        ConfigError, match=r"memory does not hold \d+ images at a time\. Raise num_workers or accumulate"
    ):
        run_workers(plan)
    assert (tmp_path / "started").read_text() == "once\n"
