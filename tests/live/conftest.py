"""A run whose model is conditioned on sex and view besides its labels, and its server."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from emixer.checkpoint import SAMPLER, point, save_checkpoint
from emixer.config import load_config
from emixer.data.conditions import Conditions
from emixer.data.vocabulary import SPECIAL_TOKENS
from emixer.generation.sampler import Sampler
from emixer.generation.trained_model import read_trained_model
from emixer.model_kinds import build_model
from emixer.models.paired_model import ModelSpec
from emixer.run_folder import RunFolder
from tests.conftest import TINY_MODEL
from tests.live.live_server import LiveServer

LABELS = ("Edema", "No Finding", "Pleural_Thickening")
WORDS = ("<script>alert(1)</script>", "edema", "clear", "lungs", "no", "effusion")


@pytest.fixture(scope="session")
def live_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random weights, one of whose words is markup. Women have edema, men do not."""
    config = load_config(extra=TINY_MODEL | {"model.conditions": ["sex", "view"]})
    conditions = Conditions(("sex", "view"), (("F", "M"), ("AP", "PA")), ())
    vectors = ((1, 0, 0, 1, 0, 0, 1), (0, 1, 0, 0, 1, 0, 1), (0, 0, 1, 0, 1, 1, 0))
    spec = ModelSpec(LABELS, (*SPECIAL_TOKENS, *WORDS), vectors, (50, 20, 20), conditions)
    torch.manual_seed(0)
    model = build_model(config.model, spec)
    tensors = {key: value for key, value in model.state_dict().items() if key.startswith(tuple(model.ema_modules()))}
    run = RunFolder.create_or_resume(tmp_path_factory.mktemp("runs") / "live", "train", config)
    state = {"model": config.model.model_dump(mode="json"), "spec": spec.to_json()}
    point(run.checkpoints, "best", save_checkpoint(run.checkpoints, 1000, {SAMPLER: tensors}, state).path)
    return run.path


@pytest.fixture(scope="session")
def live_sampler(live_run: Path) -> Sampler:
    """The same model in this process, as `emixer generate` uses it."""
    return Sampler(read_trained_model(live_run), "cpu")


@pytest.fixture(scope="session")
def live(live_run: Path) -> Iterator[LiveServer]:
    with closing(LiveServer(live_run, "--draws-per-minute", "10000")) as server:
        yield server
