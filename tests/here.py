"""What `emixer train` and the samplers of `emixer generate` do, in this process, for tests of what comes of it.

On Ray it is the same: test_killed_worker_costs_no_loss_value, tests/generation/test_dataset.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from emixer.config import Config
from emixer.generation import dataset
from emixer.generation.dataset_files import Rows
from emixer.generation.generation_plan import GenerationPlan
from emixer.generation.screening import Screen
from emixer.run_folder import RunFolder
from emixer.stages import train
from emixer.stages.train.plan import make_plan
from emixer.training.plan import train_from_last


def trained_here(config: Config) -> None:
    """Train as a Ray worker does: the stage's checks, its plan, its validation and samples."""
    shards, reader = train.checked(config)
    assert config.train.run is not None
    RunFolder.create_or_resume(config.train.run, "train", config)
    torch.set_num_threads(config.train.cpus_per_worker)
    plan = make_plan(config, shards, reader, config.train.run)
    train_from_last(plan, torch.device("cpu"), lambda windows: map(plan.reader.read, windows))


@contextmanager
def drawing_here() -> Iterator[None]:
    """Have `emixer generate` draw in this process with the class of its actors. Needs a Ray connection, as it does."""

    def tables(
        plan: GenerationPlan,
        ranges: Sequence[Rows],
        num_samplers: int,
        screen: Screen | None,
        actor: type[dataset.SamplerActor],
    ) -> Iterator[pa.Table]:
        sampler = actor(ray.put((plan, screen)), is_encoded_apart=False)
        for rows in ranges:
            for part in rows.split(plan.layout.rows_per_group):
                yield sampler({"first": np.array([part.first]), "num": np.array([part.num])})

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "encoded_tables", tables)  # `write_dataset` looks it up in its own module
        try:
            yield
        finally:
            torch.set_num_threads(threads)
