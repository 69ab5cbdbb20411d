"""Training of EMIXER and its baselines, as run by workers."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from emixer.config import Config
from emixer.data.loader import WindowReader
from emixer.data.order import Position
from emixer.model_kinds import build_model, build_phases
from emixer.models.paired_model import ModelSpec
from emixer.models.workers import world_size
from emixer.training.plan import MakeReporter, TrainPlan
from emixer.training.state import TrainState
from emixer.training.step import train_iteration

GamePlan = TrainPlan[TrainState]


def game_plan(
    config: Config, spec: ModelSpec, reader: WindowReader, run: Path, make_reporter: MakeReporter[TrainState],
    training_data: Mapping[str, Any] | None = None,
) -> GamePlan:  # fmt: skip
    """Return the plan of `emixer train`. training_data: what `describe_training_data` says, kept in checkpoints."""
    make_state = partial(_initial_state, spec, training_data)
    return TrainPlan(config, config.train, reader, run, make_state, train_iteration, make_reporter)


def _initial_state(
    spec: ModelSpec, training_data: Mapping[str, Any] | None, plan: GamePlan, device: torch.device
) -> TrainState:
    config = plan.config
    model, phases = build_model(config.model, spec), build_phases(config.model, config.loss)
    return TrainState.create(config, spec, model, phases, device, Position(world_size()), training_data)
