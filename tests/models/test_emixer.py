import pytest
import torch

from emixer.config import Config
from emixer.model_kinds import build_model
from emixer.models.emixer import Emixer
from emixer.models.noise import RowNoise
from emixer.models.paired_model import ModelSpec

CPU = torch.device("cpu")


def noise(num_rows: int, first_row: int = 0) -> RowNoise:
    return RowNoise(seed=3, step=0, first_row=first_row, num_rows=num_rows, device=CPU)


@pytest.fixture
def model(tiny_config: Config, tiny_spec: ModelSpec) -> Emixer:
    torch.manual_seed(0)
    model = build_model(tiny_config.model, tiny_spec)
    assert isinstance(model, Emixer)
    return model


def labels(num_rows: int) -> torch.Tensor:
    return (torch.arange(num_rows)[:, None] % torch.tensor([2, 3, 5]) == 0).float()


def test_every_parameter_but_those_of_a_frozen_encoder_belongs_to_one_side(model: Emixer) -> None:
    groups = model.generator_parameters()
    sides = [*groups["image"], *groups["report"], *model.discriminator_parameters()]
    assert {id(p) for p in sides} == {id(p) for p in model.parameters()}
    assert len(sides) == len({id(p) for p in sides})
    model.report_decoder.encoder.frozen = True
    encoder = {id(p) for p in model.report_decoder.encoder.parameters()}
    assert {id(p) for p in model.generator_parameters()["report"]}.isdisjoint(encoder)


def test_step_starts_with_a_power_iteration_of_every_network_but_the_decoder(model: Emixer) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.begin_step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in moved} == {
        "image_generator", "image_discriminator", "report_discriminator", "joint_discriminator",
    }  # fmt: skip
    assert all(name.endswith(("left_O", "right_I")) for name in moved)


def test_averages_are_those_of_the_generating_networks(model: Emixer) -> None:
    assert set(model.ema_modules()) == {"image_generator", "report_decoder"}


def test_three_channels_give_images_with_three_channels(tiny_config: Config, tiny_spec: ModelSpec) -> None:
    model = build_model(tiny_config.model.model_copy(update={"channels": 3}), tiny_spec)
    assert model.sample(labels(2), noise(2), temperature=0).image_BCHW.shape == (2, 3, 32, 32)
