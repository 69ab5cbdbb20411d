"""A training run without Ray, on the tiny shards."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from emixer.config import Config
from emixer.data.loader import open_windows
from emixer.data.shards import ShardSet
from emixer.run_folder import RunFolder
from emixer.stages.train import model_spec
from emixer.training.reporter import RunReporter
from emixer.training.state import TrainState
from emixer.training.workers import TrainPlan, train_from_last


@dataclass
class LocalRun:
    """What `train_locally` did."""

    folder: RunFolder
    states: list[TrainState] = field(default_factory=list)


@pytest.fixture
def train_locally() -> Callable[[Config, Path], LocalRun]:
    """Runs the same function as a Ray worker, in this process, reading windows in place."""

    def run(config: Config, path: Path) -> LocalRun:
        assert config.data.shards is not None
        shards = ShardSet.open(config.data.shards)
        model = config.model
        reader = open_windows(shards, "train", config.data, config.seed, model.max_sentences, model.max_words)
        result = LocalRun(RunFolder.create_or_resume(path, "train", config))

        def make_reporter(plan: TrainPlan, state: TrainState) -> RunReporter:
            result.states.append(state)
            measure = lambda model: {"word_cross_entropy": float(state.images)}  # noqa: E731
            return RunReporter(result.folder, state, reader.order, lambda *_: None, measure)

        plan = TrainPlan(config, model_spec(shards, reader), reader, path, make_reporter)
        train_from_last(plan, torch.device("cpu"), lambda windows: map(reader.read, windows))
        return result

    return run
