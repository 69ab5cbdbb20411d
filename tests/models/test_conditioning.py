"""Labels that a row may lack, and the conditions after them."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from emixer.config import Config, with_overrides
from emixer.data.conditions import Conditions
from emixer.errors import ConfigError
from emixer.losses.terms import conditions_term
from emixer.model_kinds import build_model, build_phases
from emixer.models.cogan import Cogan
from emixer.models.conditioning import LabelEmbedding, known_columns, known_to_both
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, ModelSpec, PairedModel, RowWeights
from emixer.training.step import row_weights

NUM = 16
CONDITIONS = Conditions(("sex", "view"), (("F", "M"), ("AP", "PA")))


def noise() -> RowNoise:
    return RowNoise(seed=3, step=1, first_row=0, num_rows=NUM, device=torch.device("cpu"))


@pytest.fixture
def spec(tiny_spec: ModelSpec) -> ModelSpec:
    """A model spec with three labels, sex and view."""
    vectors = ((0, 0, 0, 1, 0, 1, 0), (1, 0, 1, 0, 1, 0, 0))
    return replace(tiny_spec, conditions=CONDITIONS, label_vectors=vectors)


@pytest.fixture
def config(kind_config: Config) -> Config:
    reads = {} if kind_config.model.kind == "cogan" else {"model.report_decoder.reads": "image-and-labels"}
    return with_overrides(kind_config, {"model.conditions": ["sex", "view"], **reads})


@pytest.fixture
def model(config: Config, spec: ModelSpec) -> PairedModel:
    torch.manual_seed(0)
    return build_model(config.model, spec)


def beside(batch: Batch, columns_BC: torch.Tensor) -> Batch:
    return replace(batch, labels_BY=torch.cat([batch.labels_BY, columns_BC], dim=1))


def test_unknown_labels_are_left_out_and_conditions_are_kept() -> None:
    y_BY = torch.tensor([[1.0, 1, 0, 1], [1, 1, 0, 1]])
    labelled_B = torch.tensor([True, False])
    assert known_columns(y_BY, labelled_B, 2).tolist() == [[1, 1, 0, 1], [0, 0, 0, 1]]
    embedding = LabelEmbedding(2, 2, 3)
    assert embedding.of_conditions is not None
    by_hand = embedding.weight.sum(1) + embedding.bias, embedding.of_conditions.weight[:, 1]
    found = embedding(y_BY, labelled_B)
    torch.testing.assert_close(found[0], by_hand[0] + by_hand[1])
    torch.testing.assert_close(found[1], by_hand[1])


def test_same_noise_under_another_sex_gives_another_image(model: PairedModel) -> None:
    given = torch.zeros(NUM, 7)
    woman, man = given.clone(), given.clone()
    woman[:, 3], man[:, 4] = 1, 1
    images = [model.sample(y_BY, noise(), temperature=0).image_BCHW for y_BY in (given, woman, man)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (images[one] - images[other]).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def test_discriminators_use_the_conditions_of_unlabelled_rows(
    config: Config, model: PairedModel, make_batch: Callable[[int], Batch]
) -> None:
    """Row 1 has no labels: its label values must not matter, and its sex must."""
    game = build_phases(config.model, config.loss).objectives[0]
    real = beside(make_batch(NUM), torch.eye(4)[torch.arange(NUM) % 4])
    other_labels, other_sex = real.labels_BY.clone(), real.labels_BY.clone()
    other_labels[1, :3] = 1 - other_labels[1, :3]
    other_sex[1, 3:5] = 1 - other_sex[1, 3:5]
    fake_BY = torch.tensor([[0.0, 0, 0, 1, 0, 1, 0]]).repeat(NUM, 1)

    def loss(labels_BY: torch.Tensor) -> float:
        batch = replace(real, labels_BY=labels_BY)
        with torch.no_grad():
            return float(game.discriminator_loss(model, batch, fake_BY, noise(), row_weights(batch))[0])

    assert loss(other_labels) == loss(real.labels_BY)
    assert loss(other_sex) != loss(real.labels_BY)


def test_whether_a_condition_is_known_does_not_tell_fakes_from_real_images(
    config: Config, model: PairedModel, make_batch: Callable[[int], Batch]
) -> None:
    """Every draw has a sex and a view. Where no real image has them, what critics make of them changes nothing."""
    fake_BY = torch.tensor([[0.0, 0, 0, 1, 0, 1, 0]]).repeat(NUM, 1)
    without = replace(make_batch(NUM), labelled_B=torch.zeros(NUM, dtype=torch.bool))
    batches = [beside(without, torch.zeros(NUM, 4)), beside(without, fake_BY[:, 3:])]
    model.eval()
    for game in build_phases(config.model, config.loss).objectives:
        for loss in [game.generator_loss, game.discriminator_loss] if game.has_critics else []:
            before = [loss(model, real, fake_BY, noise(), row_weights(real))[0].item() for real in batches]
            for name, parameter in model.named_parameters():
                if ".projection." in name:
                    parameter.data[:, -4:] = parameter.data[:, -4:].flip(1)
            after = [loss(model, real, fake_BY, noise(), row_weights(real))[0].item() for real in batches]
            assert after[0] == pytest.approx(before[0], rel=1e-6)
            assert abs(after[1] - before[1]) > 1e-5


def test_condition_that_either_row_lacks_is_known_to_neither() -> None:
    one = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 1, 0]])
    other = torch.tensor([[0.0, 0, 1, 0, 1], [1, 1, 0, 0, 1]])
    found = known_to_both(one, other, (2, 2))
    assert found[0].tolist() == [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]
    assert found[1].tolist() == [[0, 0, 1, 0, 0], [1, 1, 0, 0, 1]]


def test_reports_depend_on_the_conditions(model: PairedModel, make_batch: Callable[[int], Batch]) -> None:
    batch = make_batch(NUM)
    nats = [
        float(model.word_cross_entropy(beside(batch, torch.eye(4)[[column] * NUM]), noise())[0]) for column in (0, 1)
    ]
    assert nats[0] != nats[1]


def test_games_with_conditions_reach_every_parameter(
    config: Config, model: PairedModel, make_batch: Callable[[int], Batch]
) -> None:
    real = beside(make_batch(NUM), torch.eye(4)[torch.arange(NUM) % 4])
    fake_BY = torch.cat([torch.eye(3)[torch.arange(NUM) % 3], torch.eye(4)[torch.arange(NUM) % 4]], dim=1)
    for game in build_phases(config.model, config.loss).objectives:
        for loss_of in (game.discriminator_loss, game.generator_loss) if game.has_critics else (game.generator_loss,):
            loss_of(model, real, fake_BY, noise(), row_weights(real))[0].backward()
    reading = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.endswith(("of_conditions.weight", "embed_labels.weight", "projection.parametrizations.weight.original"))
    }
    heads = [parameter for name, parameter in model.named_parameters() if "condition_head" in name]
    assert all(parameter.grad is not None for parameter in heads)
    assert len(heads) == (0 if isinstance(model, Cogan) else 2)
    assert len(reading) == (2 if isinstance(model, Cogan) else 3)  # G, its discriminator, and F if it reads labels
    for name, parameter in reading.items():
        assert parameter.grad is not None, name
        assert parameter.grad[:, -4:].abs().amax(dim=0).min() > 0, name


def test_conditions_term_uses_only_known_conditions() -> None:
    """One known sex and one known view in two rows; log-probabilities worked out by hand."""
    y_BY = torch.tensor([[1.0, 1, 0, 0, 0], [1, 0, 0, 0, 1]])
    logits = (torch.tensor([[0.0, math.log(3)], [5, -5]]), torch.tensor([[9.0, 9], [math.log(1), math.log(4)]]))
    one = torch.tensor(1.0)
    weights = RowWeights(torch.tensor(0.5), one, one, one, one, one, one)
    term = conditions_term("conditions", logits, y_BY, weights)["conditions"]
    assert term.item() == pytest.approx((math.log(4) + math.log(5 / 4)) / 2 * 0.5)
    assert conditions_term("conditions", (), y_BY, weights) == {}


def test_spec_stores_its_conditions_and_an_old_spec_has_none(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec
    old = {key: value for key, value in spec.to_json().items() if key != "conditions"}
    assert ModelSpec.from_json(old).conditions == Conditions()
    assert spec.described((1, 0, 0, 0, 1, 1, 0)) == ["A", "M", "AP"]
    assert spec.most_frequent_conditions() == {"sex": "F", "view": "AP"}  # 3 of 4 images


def test_jointgan_refuses_conditions_when_reports_come_first(tiny_config: Config) -> None:
    with pytest.raises(ConfigError, match="direction=report_first generates the image from its report only"):
        with_overrides(
            tiny_config,
            {"model.kind": "jointgan", "model.direction": "report_first", "model.conditions": ["sex"]},
        )


@pytest.mark.parametrize("bounds", [[], [40, 18], [0, 18], [18, 18], [18, 200]])
def test_age_bounds_must_increase(tiny_config: Config, bounds: list[int]) -> None:
    with pytest.raises(ConfigError, match="must be increasing ages"):
        with_overrides(tiny_config, {"model.age_bounds": bounds})
