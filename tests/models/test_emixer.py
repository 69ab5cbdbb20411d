from collections.abc import Callable

import pytest
import torch

from emixer.config import Config
from emixer.models.build import build_model
from emixer.models.emixer import Emixer
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch, ModelSpec

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


def test_a_sample_is_a_film_and_a_report_a_row_and_leaves_the_model_as_it_was(model: Emixer) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pairs = model.sample(labels(5), noise(5), temperature=0.7)
    assert pairs.image_BCHW.shape == (5, 1, 32, 32)
    assert pairs.image_BCHW.dtype == torch.float32
    assert pairs.words_BSW.shape == (5, 4, 6)
    assert pairs.words_BSW.dtype == torch.int64
    assert model.training
    assert model.image_generator.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_row_i_of_a_sample_is_the_same_in_another_split(model: Emixer) -> None:
    whole = model.sample(labels(32), noise(32), temperature=1.0)
    halves = [model.sample(labels(32)[i : i + 16], noise(16, i), temperature=1.0) for i in (0, 16)]
    torch.testing.assert_close(whole.image_BCHW, torch.cat([half.image_BCHW for half in halves]))
    assert torch.equal(whole.words_BSW, torch.cat([half.words_BSW for half in halves]))
    again = model.sample(labels(32)[16:], noise(16, 16), temperature=1.0)
    assert torch.equal(again.image_BCHW, halves[1].image_BCHW)


def test_the_same_noise_with_other_labels_gives_another_film(model: Emixer) -> None:
    first = model.sample(torch.zeros(2, 3), noise(2), temperature=0)
    second = model.sample(torch.ones(2, 3), noise(2), temperature=0)
    assert (first.image_BCHW - second.image_BCHW).abs().max() > 1e-3


def test_word_cross_entropy_is_the_sum_over_the_words_of_reports(
    model: Emixer, make_batch: Callable[[int], Batch]
) -> None:
    batch = make_batch(6)
    total, count = model.word_cross_entropy(batch)
    model.eval()
    decoder = model.report_decoder
    plan = decoder.plan(decoder.encoder(batch.image_BCHW))
    logits = decoder.teacher_forced(plan.topics_BSE, batch.words_BSW)
    expected, words = 0.0, 0
    for index, word in enumerate(batch.words_BSW.flatten().tolist()):
        if word != PAD:
            expected -= logits.flatten(0, 2)[index].log_softmax(0)[word].item()
            words += 1
    assert count == words
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_every_parameter_belongs_to_one_side_and_a_frozen_encoders_to_none(model: Emixer) -> None:
    groups = model.generator_parameters()
    sides = [*groups["image"], *groups["report"], *model.discriminator_parameters()]
    assert {id(p) for p in sides} == {id(p) for p in model.parameters()}
    assert len(sides) == len({id(p) for p in sides})
    model.report_decoder.encoder.frozen = True
    encoder = {id(p) for p in model.report_decoder.encoder.parameters()}
    assert {id(p) for p in model.generator_parameters()["report"]}.isdisjoint(encoder)


def test_a_step_begins_with_one_power_iteration_of_every_network_but_the_decoder(model: Emixer) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.begin_step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in moved} == {
        "image_generator", "image_discriminator", "report_discriminator", "joint_discriminator",
    }  # fmt: skip
    assert all(name.endswith(("left_O", "right_I")) for name in moved)


def test_noise_and_averages_are_those_of_the_generating_networks(model: Emixer) -> None:
    assert model.noise_shape() == model.image_generator.noise_size
    assert set(model.ema_modules()) == {"image_generator", "report_decoder"}


def test_three_channels_give_films_of_three(tiny_config: Config, tiny_spec: ModelSpec) -> None:
    model = build_model(tiny_config.model.model_copy(update={"channels": 3}), tiny_spec)
    assert model.sample(labels(2), noise(2), temperature=0).image_BCHW.shape == (2, 3, 32, 32)
