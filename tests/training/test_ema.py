"""The moving average of the sampling networks: its half-life, its ramp, and what rests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emixer.config import Config, with_overrides
from emixer.config.training import LossConfig
from emixer.data.order import DataOrder
from emixer.model_kinds import build_phases
from emixer.models.paired_model import PairedModel
from emixer.models.spectral_norm import spectrally_normalized
from emixer.training.ema import MovingAverage
from emixer.training.reporter import RunReporter

G, F = "image_generator", "report_decoder"


@pytest.mark.parametrize(
    ("trained_on", "half_life"), [(64, 6.4), (500, 50), (1000, 100), (100_000, 100)], ids=lambda value: f"{value:g}"
)
def test_half_life_is_a_tenth_of_the_images_trained_on_at_most(trained_on: int, half_life: float) -> None:
    model = nn.ModuleDict({G: nn.Linear(1, 1), F: nn.Linear(1, 1)})
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    average = MovingAverage(model, (G, F), half_life_images=100)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    average.update(32, {G: trained_on})
    averaged = average.state_dict()
    assert averaged[f"{G}.weight"].item() == pytest.approx(1 - 0.5 ** (32 / half_life))
    assert averaged[f"{F}.weight"].item() == 0, "it rests"


def test_statistics_of_batch_norms_are_averaged_and_unit_vectors_copied() -> None:
    norm, linear = nn.BatchNorm1d(1), spectrally_normalized(nn.Linear(3, 2))
    model = nn.ModuleDict({G: nn.Sequential(norm, linear)})
    average = MovingAverage(model, (G,), half_life_images=100)
    assert isinstance(norm.running_mean, torch.Tensor)
    norm.running_mean.fill_(1)
    linear.parametrizations.weight[0].left_O.copy_(torch.tensor([0.6, 0.8]))
    average.update(32, {G: 64})
    averaged = average.state_dict()
    assert averaged[f"{G}.0.running_mean"].item() == pytest.approx(1 - 0.5 ** (32 / 6.4))
    assert averaged[f"{G}.1.parametrizations.weight.0.left_O"].tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("kind", "shares", "expected"),
    [
        (
            "emixer",
            {"model.words_share": 0.3, "model.images_share": 0.5},
            {0.1: {F: 0.0}, 0.5: {G: 0.3, F: 0.0}, 0.9: {G: 0.3, F: 0.0}},
        ),
        ("smgan", {"model.decoder_share": 0.4}, {0.5: {G: 0.0}, 0.6: {F: 0.6}, 0.9: {F: 0.6}}),
        ("jointgan", {}, {0.0: {G: 0.0, F: 0.0}, 0.9: {G: 0.0, F: 0.0}}),
    ],
)
def test_an_average_starts_anew_only_where_its_network_rested(
    tiny_config: Config, kind: str, shares: dict[str, float], expected: dict[float, dict[str, float]]
) -> None:
    """A network that goes on into another phase keeps its average, and with it the half-life reached so far."""
    phases = build_phases(with_overrides(tiny_config, {"model.kind": kind, **shares}).model, LossConfig())
    for progress, since in expected.items():
        assert phases.trained_since(progress, (G, F)) == pytest.approx(since)


def test_validation_measures_the_averaged_networks_at_rest(
    tiny_config: Config, tmp_path: Path, train_locally: Callable[..., Any]
) -> None:
    run = train_locally(with_overrides(tiny_config, {"train.images": 64, "optim.lr_generator": 0.01}), tmp_path / "run")
    (state,) = run.states
    seen = []

    def measure(model: PairedModel) -> dict[str, float]:
        seen.append((model.training, {name: tensor.clone() for name, tensor in model.state_dict().items()}))
        return {"word_cross_entropy": 0.5}

    RunReporter(run.folder, state, DataOrder((96,), 96, 0), lambda *_: None, measure).validate()
    ((is_training, tensors),) = seen
    assert not is_training
    averages = state.ema.state_dict()
    assert all(torch.equal(tensors[name], average) for name, average in averages.items())
    assert any(not torch.equal(state.model.state_dict()[name], average) for name, average in averages.items())
