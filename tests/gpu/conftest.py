"""What the tests of a GPU share. Each runs on the CPU too, so that its body is known to run where there is no GPU."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from emixer.config import Config
from emixer.data.loader import HostBatch, open_windows
from emixer.data.shards import ShardSet
from emixer.stages.model_spec import model_spec
from emixer.training.game import game_plan
from emixer.training.state import TrainState

_CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
    ],
)


@pytest.fixture(params=["cpu", _CUDA])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A device whose products are full float32: TF32's ten bits would hide what is compared."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield torch.device(request.param)
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture(scope="session")
def tiny_batches(tiny_config: Config) -> list[HostBatch]:
    """Two batches of 16 rows: what one iteration of `tiny_config` reads."""
    assert tiny_config.data.shards is not None
    reader = open_windows(ShardSet.open(tiny_config.data.shards), "train", tiny_config.data, 0, 4, 6)
    rows = reader.read(0)
    return [rows.rows(0, 16), rows.rows(16, 32)]


@pytest.fixture
def fresh_state(tiny_config: Config, device: torch.device) -> Callable[..., TrainState]:
    """fresh_state(config=tiny_config, device=device): a run that has not begun, with the same weights each time."""

    def make(config: Config = tiny_config, device: torch.device = device) -> TrainState:
        assert config.data.shards is not None
        shards = ShardSet.open(config.data.shards)
        reader = open_windows(shards, "train", config.data, 0, 4, 6)
        plan = game_plan(config, model_spec(shards, reader), reader, Path("unused"), lambda *_: pytest.fail("no run"))
        torch.manual_seed(0)
        return plan.make_state(plan, device)

    return make
