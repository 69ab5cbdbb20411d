"""Errors form one tree, are one paragraph each, and survive the way through Ray."""

import pickle
from pathlib import Path
from typing import Any

import pytest

import emixer
from emixer import errors
from emixer.config import Config, RayConfig
from emixer.errors import ConfigError, EmixerError, ShardError, StorageError, find_emixer_error
from emixer.ray_session import connect
from emixer.training.plan import TrainPlan
from emixer.training.workers import run_workers

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_an_emixer_error_and_in_the_documented_tree(kind: type[EmixerError]) -> None:
    assert issubclass(kind, EmixerError)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling(kind: type[EmixerError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("what failed · the value")))
    assert type(copy) is kind
    assert str(copy) == copy.message == "what failed · the value"


def test_base_error_is_public() -> None:
    assert emixer.EmixerError is EmixerError


def test_error_is_found_under_causes_and_contexts() -> None:
    def fail() -> None:
        try:
            raise ShardError("shard 3")
        except ShardError:
            raise KeyError("while handling") from None

    with pytest.raises(KeyError) as by_context:
        fail()
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = ShardError("shard 4")
    assert str(find_emixer_error(by_context.value)) == "shard 3"
    assert str(find_emixer_error(wrapped)) == "shard 4"
    assert find_emixer_error(RuntimeError("a bug")) is None


def test_cycle_of_causes_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert find_emixer_error(first) is None


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
class TestThroughRay:
    """The user reads the same paragraph whether a stage or one of its workers failed."""

    def test_from_a_task(self) -> None:
        import ray

        @ray.remote  # type: ignore[untyped-decorator]
        def work() -> None:
            raise StorageError("the disk is full")

        with pytest.raises(ray.exceptions.RayTaskError) as caught:
            ray.get(work.remote())
        assert str(find_emixer_error(caught.value)) == "the disk is full"

    def test_from_a_nested_task(self) -> None:
        import ray

        @ray.remote  # type: ignore[untyped-decorator]
        def inner() -> None:
            raise StorageError("the disk is full")

        @ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]
        def outer() -> None:
            ray.get(inner.remote())

        with pytest.raises(ray.exceptions.RayTaskError) as caught:
            ray.get(outer.remote())
        assert str(find_emixer_error(caught.value)) == "the disk is full"

    def test_from_a_function_of_ray_data(self) -> None:
        import ray

        def work(batch: dict[str, object]) -> dict[str, object]:
            raise ShardError("shards of another version")

        with pytest.raises(Exception, match="another version") as caught:
            ray.data.range(4).map_batches(work).materialize()
        assert str(find_emixer_error(caught.value)) == "shards of another version"

    @pytest.mark.thorough
    def test_from_a_worker_of_ray_train(self, tiny_config: Config, tmp_path: Path) -> None:
        def make_state(plan: object, device: object) -> None:
            raise ConfigError("a batch of 7 cannot be split")

        schedule = tiny_config.train.model_copy(update={"max_failures": 0})
        plan: Any = TrainPlan(tiny_config, schedule, None, tmp_path, make_state, None, None)  # type: ignore[arg-type]
        with pytest.raises(Exception, match="cannot be split") as caught:
            run_workers(plan)
        assert str(find_emixer_error(caught.value)) == "a batch of 7 cannot be split"

    def test_nested_session_leaves_the_outer_one_alone(self) -> None:
        import ray

        with connect(RayConfig(num_cpus=1)):
            pass
        assert ray.is_initialized()
