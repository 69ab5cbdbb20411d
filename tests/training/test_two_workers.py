"""Two workers with half the batch each compute what one worker computes with the whole batch."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from emixer.config import Config, validate, with_overrides
from emixer.data.loader import BatchStream, HostBatch, WindowReader, open_windows
from emixer.data.order import Position
from emixer.data.shards import ShardSet
from emixer.errors import CheckpointError
from emixer.model_kinds import build_model, build_phases
from emixer.models.paired_model import PAD
from emixer.stages.model_spec import model_spec
from emixer.training.game import game_plan
from emixer.training.gradients import sum_gradients
from emixer.training.plan import _require_same_start, train_from_last
from emixer.training.state import TrainState
from emixer.training.step import train_iteration

NUM_ITERATIONS = 3


def open_reader(config: Config) -> tuple[ShardSet, WindowReader]:
    assert config.data.shards is not None
    shards = ShardSet.open(config.data.shards)
    return shards, open_windows(shards, "train", config.data, config.seed, 4, 6)


def first_batches(config: Config, case: str) -> list[HostBatch]:
    _, reader = open_reader(config)
    stream = BatchStream(reader, config.train.batch_size, Position(1), 0, lambda windows: map(reader.read, windows))
    batches = list(islice(stream, NUM_ITERATIONS * config.optim.discriminator_steps))
    return [_reports_in_second_half(batch) for batch in batches] if case == ONE_SIDED else batches


def _reports_in_second_half(batch: HostBatch) -> HostBatch:
    has_report = batch.has_report & (np.arange(len(batch)) >= len(batch) // 2)
    return replace(batch, has_report=has_report, words=np.where(has_report[:, None, None], batch.words, PAD))


def trained(config: Config, batches: list[HostBatch]) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Return the loss terms of each iteration on this worker, and the final weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    spec = model_spec(*open_reader(config))
    model, phases = build_model(config.model, spec), build_phases(config.model, config.loss)
    state = TrainState.create(config, spec, model, phases, torch.device("cpu"), Position(1))
    stream = iter(batches)
    terms = [{k: float(v) for k, v in train_iteration(state, stream).items()} for _ in range(NUM_ITERATIONS)]
    return terms, {k: v.clone() for k, v in model.state_dict().items()}


ONE_SIDED = "a worker without any report"
CASES: dict[str, dict[str, Any]] = {
    **{kind: {"model.kind": kind} for kind in ("emixer", "cogan", "jointgan", "smgan")},
    "soft words": {"model.gumbel.straight_through": False},
    ONE_SIDED: {"model.kind": "smgan", "model.decoder_share": 0.9},  # words are all that F's writer learns from
}
# rows own their noise in blocks of 16; Adam's first steps divide by |gradient|, so the rates are kept small
SCHEDULE = {
    "train.batch_size": 32, "train.images": 3 * 64, "optim.lr_generator": 1e-4, "optim.lr_discriminator": 1e-4,
}  # fmt: skip


def _worker(rank: int, address: str, trees: dict[str, dict[str, Any]], out: Path) -> None:
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    for name, tree in trees.items():
        config = validate(tree, "test")
        half = config.train.batch_size // 2
        batches = [batch.rows(rank * half, (rank + 1) * half) for batch in first_batches(config, name)]
        torch.save(trained(config, batches), out / f"{name}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of each of two workers in every case: `<case>-<rank>.pt`. The same two workers run all cases, since
    starting them takes most of their time."""
    out = tmp_path_factory.mktemp("halves")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    trees = {name: with_overrides(tiny_config, SCHEDULE | changed).model_dump() for name, changed in CASES.items()}
    mp.spawn(_worker, args=(address, trees, out), nprocs=2)
    return out


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_equal_those_of_one_worker(case: str, halves: Path, tiny_config: Config) -> None:
    config = with_overrides(tiny_config, SCHEDULE | CASES[case])
    whole, weights = trained(config, first_batches(config, case))
    both = [torch.load(halves / f"{case}-{rank}.pt", weights_only=True) for rank in range(2)]
    for step, terms in enumerate(whole):
        for name, value in terms.items():
            summed = both[0][0][step][name] + both[1][0][step][name]
            assert summed == pytest.approx(value, rel=2e-3, abs=1e-4), (step, name)
    for key, value in weights.items():
        assert torch.equal(both[0][1][key], both[1][1][key]), f"the workers drifted apart in {key}"
        assert torch.allclose(both[0][1][key], value, atol=2e-3), key


def _in_process(rank: int, address: str, tree: dict[str, Any], run: Path) -> None:
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    _require_summed_gradients(rank)
    _require_same_start(640, torch.device("cpu"))
    with pytest.raises(CheckpointError, match="found the checkpoint of 640 images and others that of 0"):
        _require_same_start(640 * rank, torch.device("cpu"))
    _require_different_images(validate(tree, "test"), run)
    dist.destroy_process_group()


def _require_summed_gradients(rank: int) -> None:
    parameters = [
        torch.nn.Parameter(torch.zeros(3, 2)),
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Parameter(torch.zeros(1)),
    ]
    parameters[0].grad = torch.arange(6.0).reshape(3, 2) * (rank + 1)
    parameters[1].grad = torch.full((2,), 10.0 * rank)
    sum_gradients(parameters)
    assert torch.equal(parameters[0].grad, torch.arange(6.0).reshape(3, 2) * 3)
    assert torch.equal(parameters[1].grad, torch.full((2,), 10.0))
    assert parameters[2].grad is None


class _SeenError(Exception):
    """Raised in place of a training step."""


def _require_different_images(config: Config, run: Path) -> None:
    """In the first batches that training gives the workers."""
    seen: list[bytes] = []

    def look(state: TrainState, batches: Iterator[HostBatch]) -> NoReturn:
        seen.extend(image.tobytes() for image in next(batches).image)
        raise _SeenError

    shards, reader = open_reader(config)
    plan = game_plan(config, model_spec(shards, reader), reader, run, Mock())
    with pytest.raises(_SeenError):
        train_from_last(replace(plan, advance=look), torch.device("cpu"), lambda windows: map(reader.read, windows))
    of_both: list[Any] = [None, None]
    dist.all_gather_object(of_both, seen)
    assert [len(of_one) for of_one in of_both] == [config.train.batch_size // 2] * 2
    assert not set(of_both[0]) & set(of_both[1])


def test_workers_sum_gradients_with_their_shape_begin_at_one_point_and_read_different_images(
    tiny_config: Config, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    mp.spawn(_in_process, args=(address, tiny_config.model_dump(), tmp_path), nprocs=2)
