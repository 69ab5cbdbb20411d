"""What a step does on a device that the host would have to wait for, seen on a CPU that is treated as one.

Reports have 24 words at most: the attentive writer's look every 32, whether any report goes on, is not reached.
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from emixer.config import Config, with_overrides
from emixer.data.loader import HostBatch, open_windows
from emixer.data.shards import ShardSet
from emixer.models import host_reads
from emixer.stages.model_spec import model_spec
from emixer.training.game import game_plan
from emixer.training.state import TrainState
from emixer.training.step import train_iteration

aten = torch.ops.aten
EVERY_TERM = {
    "data.horizontal_flip": True, "train.accumulate": 2, "loss.relativistic": True, "loss.gradient_penalty": 0.1,
    "loss.alpha": 0.2, "loss.beta": 0.5, "loss.image_labels": 1.0, "loss.augment": ["translation", "color"],
    "loss.augment_target": 0.6,
}  # fmt: skip
ATTENTIVE = {
    "model.report_decoder.kind": "attentive", "model.report_decoder.width": 16, "model.report_decoder.heads": 2,
    "model.report_decoder.layers": 1,
}  # fmt: skip
GAMES: dict[str, dict[str, Any]] = {
    "hierarchical": EVERY_TERM,
    "soft": {"model.gumbel.straight_through": False},
    "attentive": ATTENTIVE | {"train.precision": "bf16"},
    "cogan": {"model.kind": "cogan"},
    "jointgan": ATTENTIVE | {"model.kind": "jointgan"},
    "smgan": {"model.kind": "smgan"},
}


class HostReads(TorchDispatchMode):
    """Collects the lines of ours that read a tensor's values, or build a tensor whose size depends on values."""

    SIZED_BY_VALUES = (aten.nonzero, aten.masked_select, aten.unique_dim, aten._unique2, aten.unique_consecutive)
    READS = (aten._local_scalar_dense, aten.equal, aten.is_nonzero, *SIZED_BY_VALUES)
    INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._unsafe_index)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        masks = packet in self.INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1])
        if packet in self.READS or masks:
            ours = [f"{f.filename}:{f.lineno}" for f in traceback.extract_stack() if "/emixer/" in f.filename]
            self.lines.append(ours[-1] if ours else str(func))
        return func(*args, **kwargs or {})


@pytest.fixture(params=list(GAMES))
def played(request: pytest.FixtureRequest, tiny_config: Config) -> Config:
    return with_overrides(tiny_config, GAMES[request.param])


@pytest.fixture
def as_on_a_device(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """as_on_a_device(): from now on no tensor is free to read."""

    def patch() -> None:
        free, modules = host_reads.free_to_read, list(sys.modules.values())
        for module in modules:
            if getattr(module, "free_to_read", None) is free:
                monkeypatch.setattr(module, "free_to_read", lambda tensor: False)

    return patch


def at_every_phase(config: Config) -> Iterator[tuple[TrainState, Iterator[HostBatch]]]:
    """A fresh run, with the same weights each time, in each of its phases, and what it reads next."""
    assert config.data.shards is not None
    shards = ShardSet.open(config.data.shards)
    reader = open_windows(shards, "train", config.data, 0, 4, 6)
    plan = game_plan(config, model_spec(shards, reader), reader, Path("unused"), lambda *_: pytest.fail("no run"))
    rows = reader.read(0)
    seen = []
    for share in (0.0, 0.4, 0.8):
        torch.manual_seed(0)
        state = plan.make_state(plan, torch.device("cpu"))
        state.iteration = int(share * config.train.images) // state.images_per_iteration
        phase = state.phases.objectives.index(state.phases.at(state.progress))
        if phase not in seen:
            seen.append(phase)
            yield state, iter([rows.rows(0, 16), rows.rows(16, 32)])


def test_a_step_reads_no_value_of_its_device(played: Config, as_on_a_device: Callable[[], None]) -> None:
    as_on_a_device()
    for state, batches in at_every_phase(played):
        with HostReads() as reads:
            train_iteration(state, batches)
        assert reads.lines == []


def test_reads_are_noticed(tiny_config: Config) -> None:
    state, batches = next(at_every_phase(tiny_config))
    with HostReads() as reads:
        train_iteration(state, batches)
    assert any("writer" in line for line in reads.lines)


def test_losses_and_weights_are_those_of_a_step_that_reads(played: Config, as_on_a_device: Callable[[], None]) -> None:
    played = with_overrides(played, {"train.precision": "fp32"})  # bf16 rounds products of other shapes otherwise

    def outcomes() -> list[tuple[dict[str, Tensor], list[Tensor]]]:
        return [(train_iteration(state, batches), [p.grad for p in state.model.parameters() if p.grad is not None])
                for state, batches in at_every_phase(played)]  # fmt: skip

    reading = outcomes()
    as_on_a_device()
    for (terms, gradients), (own_terms, own_gradients) in zip(reading, outcomes(), strict=True):
        assert own_terms.keys() == terms.keys()
        for name, value in terms.items():
            torch.testing.assert_close(own_terms[name], value, rtol=1e-4, atol=1e-5, msg=name)
        for own, gradient in zip(own_gradients, gradients, strict=True):
            torch.testing.assert_close(own, gradient, rtol=1e-3, atol=1e-4)
