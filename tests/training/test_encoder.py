"""The chest encoder's training loop, in this process."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emixer.config import Config, with_overrides
from emixer.data.collection import identify
from emixer.data.loader import HostBatch
from emixer.data.order import Position
from emixer.data.shards import ShardSet
from emixer.run_folder import RunFolder
from emixer.stages.encoder.plan import make_encoder_plan
from emixer.training.encoder import EncoderPlan, EncoderReporter, EncoderState, encoder_iteration
from emixer.training.plan import train_from_last
from tests.shard_columns import fill_column

SMALL = {
    "encoder.network.growth": 4, "encoder.network.blocks": [1, 1, 1, 1], "encoder.network.stem_channels": 8,
    "encoder.network.input_px": 32, "encoder.images": 192, "encoder.batch_size": 16,
    "encoder.log_every_images": 32, "encoder.validate_every_images": 96, "encoder.save_every_images": 64,
}  # fmt: skip


@pytest.fixture
def small(tiny_config: Config) -> Config:
    return with_overrides(tiny_config, SMALL)


@dataclass
class Trained:
    folder: RunFolder
    state: EncoderState


class Killed(BaseException):
    pass


@pytest.fixture
def train_here() -> Callable[..., Trained]:
    def run(config: Config, path: Path, killed_after: int | None = None) -> Trained:
        torch.set_num_threads(1)
        assert config.data.shards is not None
        shards = ShardSet.open(config.data.shards)
        folder = RunFolder.create_or_resume(path, "encoder", config)
        plan = make_encoder_plan(config, shards, path, identify(shards))
        states: list[EncoderState] = []

        def reporter(plan: EncoderPlan, state: EncoderState) -> Any:
            states.append(state)
            made = plan_reporter(plan, state)
            assert isinstance(made, EncoderReporter)
            save = made.save

            def save_and_die() -> None:
                save()
                if state.images == killed_after:
                    raise Killed

            made.save = save_and_die  # type: ignore[method-assign]
            return made

        plan_reporter = plan.make_reporter
        object.__setattr__(plan, "make_reporter", reporter)
        with suppress(Killed):
            train_from_last(plan, torch.device("cpu"), lambda windows: map(plan.reader.read, windows))
        return Trained(folder, states[0])

    return run


def losses(trained: Trained) -> list[dict[str, float]]:
    rates = ("images_per_s", "wait_share")
    return [{k: v for k, v in line.items() if k not in rates} for line in trained.folder.metrics()]


def test_killed_run_resumes_exactly(small: Config, tmp_path: Path, train_here: Callable[..., Trained]) -> None:
    whole = train_here(small, tmp_path / "whole")
    train_here(small, tmp_path / "killed", killed_after=128)
    resumed = train_here(small, tmp_path / "killed")
    assert losses(resumed) == losses(whole)
    left, right = whole.state.model.state_dict(), resumed.state.model.state_dict()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_run_asked_to_stop_when_nothing_is_left_to_train_concludes(
    small: Config, tmp_path: Path, train_here: Callable[..., Trained]
) -> None:
    # all come at the end of the run, and the request is seen with the log line
    late = {f"encoder.{what}_every_images": 10**6 for what in ("log", "save", "validate")}
    config = with_overrides(small, late | {"encoder.images": 32})
    RunFolder.create_or_resume(tmp_path / "run", "encoder", config).request_stop()
    trained = train_here(config, tmp_path / "run")
    assert trained.state.images == 32
    assert (tmp_path / "run" / "evaluation.json").exists()
    assert not trained.folder.stop_is_requested


def test_learns_what_the_images_show(small: Config, tmp_path: Path, train_here: Callable[..., Trained]) -> None:
    """Each label of the tiny shards brightens its own stripe."""
    config = with_overrides(small, {"encoder.images": 6400, "encoder.augment": [], "encoder.lr": 0.01,
                                    "encoder.validate_every_images": 3200})  # fmt: skip
    lines = [line for line in losses(train_here(config, tmp_path / "run")) if "validation/auc" in line]
    # the mean of about ten AUCs of 32 images each: by chance it is within 0.1 of 0.5
    assert lines[-1]["validation/auc"] > 0.62
    assert lines[-1]["validation/auc"] == pytest.approx(
        np.mean([value for name, value in lines[-1].items() if name.startswith("validation/auc/")])
    )


def test_intervals_are_of_patients_and_of_one_patient_as_wide_as_a_point(
    small: Config, tmp_path: Path, train_here: Callable[..., Trained], make_shards: Callable[..., Path]
) -> None:
    shards = make_shards(tmp_path / "shards", train=96, validate=64, test=64)
    fill_column(shards, "validate", "subject_id", "p")
    train_here(with_overrides(small, {"data.shards": shards, "encoder.images": 32}), tmp_path / "run")
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    of_one, of_many = ([*evaluation[split]["labels"].values()] for split in ("validate", "test"))
    assert of_one
    assert all(row["low"] == row["auc"] == row["high"] for row in of_one), "resampled, she is always all images"
    assert of_many
    assert all(row["low"] < row["high"] for row in of_many)


def batch(num: int = 8) -> HostBatch:
    generator = np.random.default_rng(0)
    known = generator.random((num, 14)) < 0.6
    return HostBatch(
        image=generator.integers(0, 255, (num, 32, 32), dtype=np.uint8),
        labels=(generator.random((num, 14)) < 0.4).astype(np.uint8),
        labelled=np.ones(num, bool),
        known=known,
        words=np.zeros((num, 1, 2), np.int32),
        has_report=np.zeros(num, bool),
    )


def fresh(config: Config) -> EncoderState:
    assert config.data.shards is not None
    shards = ShardSet.open(config.data.shards)
    plan = make_encoder_plan(config, shards, Path("unused"), identify(shards))
    torch.manual_seed(0)
    state = plan.make_state(plan, torch.device("cpu"))
    state.position = Position(1)
    return state


def test_loss_is_the_mean_over_known_labels_and_ignores_unknown_ones(small: Config) -> None:
    config = with_overrides(small, {"encoder.augment": []})
    host = batch()
    state = fresh(config)
    with torch.no_grad():
        image = torch.from_numpy(host.image).float().div(127.5).sub(1)[:, None]
        probability = state.model.logits(state.model.final_features(image)).sigmoid().double().numpy()
    each = -np.where(host.labels == 1, np.log(probability), np.log(1 - probability))
    loss = encoder_iteration(fresh(config), iter([host]))["encoder/loss"].item()
    assert loss == pytest.approx(each[host.known].mean(), rel=1e-4)
    other = host.labels.copy()
    other[~host.known] = 1 - other[~host.known]
    changed = HostBatch(host.image, other, host.labelled, host.known, host.words, host.has_report)
    one, two = fresh(config), fresh(config)
    encoder_iteration(one, iter([host]))
    encoder_iteration(two, iter([changed]))
    left, right = one.model.state_dict(), two.model.state_dict()
    assert all(torch.equal(left[key], right[key]) for key in left)


def test_learning_rate_follows_a_cosine(small: Config) -> None:
    state = fresh(with_overrides(small, {"encoder.lr": 0.01}))
    rates = []
    for _ in range(12):  # the whole run: 192 images, 16 per step
        encoder_iteration(state, iter([batch(16)]))
        rates.append(state.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.01)
    assert rates[6] == pytest.approx(0.005)
    assert rates[-1] == pytest.approx(0.01 * (1 + np.cos(np.pi * 11 / 12)) / 2)


def test_images_without_known_labels_change_no_weight(small: Config) -> None:
    state = fresh(with_overrides(small, {"encoder.weight_decay": 0.0}))
    host = batch()
    nothing = HostBatch(host.image, host.labels, host.labelled, np.zeros_like(host.known), host.words, host.has_report)
    before = {name: parameter.clone() for name, parameter in state.model.named_parameters()}
    assert encoder_iteration(state, iter([nothing]))["encoder/loss"] == 0
    assert all(torch.equal(parameter, before[name]) for name, parameter in state.model.named_parameters())


def test_gradients_of_micro_batches_add_up_to_that_of_the_whole_batch(small: Config) -> None:
    gradients = []
    for accumulate in (1, 4):
        state = fresh(with_overrides(small, {"encoder.accumulate": accumulate}))
        state.model.eval()  # in training, batch norm would mix the rows of a micro-batch
        encoder_iteration(state, iter([batch(16)]))
        gradients.append({name: parameter.grad for name, parameter in state.model.named_parameters()})
    whole, quarters = gradients
    for name, gradient in whole.items():
        assert gradient is not None
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(quarters[name], gradient, rtol=1e-3, atol=1e-7, msg=name)


def test_mixed_precision_and_micro_batches_agree_within_tolerance(
    small: Config, tmp_path: Path, train_here: Callable[..., Trained]
) -> None:
    """Micro-batches have their own batch norm statistics, so only the first loss is compared, and only loosely."""
    whole = losses(train_here(small, tmp_path / "fp32"))[0]["encoder/loss"]
    for name, setting in {"bf16": {"encoder.precision": "bf16"}, "micro": {"encoder.accumulate": 2}}.items():
        other = losses(train_here(with_overrides(small, setting), tmp_path / name))[0]["encoder/loss"]
        assert other == pytest.approx(whole, rel=0.05)
        assert other != whole
