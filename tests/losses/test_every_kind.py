"""What the trainer requires of every kind of game."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from emixer.config import Config, with_overrides
from emixer.config.training import LossConfig
from emixer.errors import ConfigError
from emixer.model_kinds import build_model, build_phases
from emixer.models.paired_model import Batch, ModelSpec, Objective, PairedModel
from emixer.training.step import row_weights
from tests.losses.players import critics_loss, fake_labels, generator_side, generators_loss, noise, unreached

NUM = 16
NOISE, FAKE_LABELS = noise(NUM), fake_labels(NUM)
STEP = 0.1
MakeBatch = Callable[[int], Batch]


@pytest.fixture
def model(kind_config: Config, tiny_spec: ModelSpec) -> PairedModel:
    torch.manual_seed(0)
    model = build_model(kind_config.model, tiny_spec)
    for name, parameter in model.named_parameters():
        if name.endswith("attention.gain"):
            nn.init.constant_(parameter, 0.5)  # at 0 the attention layers would have no gradient
    return model


def games(config: Config, **loss: float) -> tuple[Objective, ...]:
    return build_phases(config.model, LossConfig.model_validate(loss)).objectives


def test_losses_reach_every_parameter_of_their_player_and_none_of_the_other(
    kind_config: Config, model: PairedModel, make_batch: MakeBatch
) -> None:
    real = make_batch(NUM)
    for game in games(kind_config):
        if game.has_critics:
            critics_loss(game, model, real)
    assert unreached(model.discriminator_parameters(), model) == []
    assert all(parameter.grad is None for parameter in generator_side(model))
    model.zero_grad(set_to_none=True)
    for game in games(kind_config):
        generators_loss(game, model, real)
    assert unreached(generator_side(model), model) == []
    assert all(parameter.grad is None for parameter in model.discriminator_parameters())


@pytest.mark.parametrize("straight_through", [True, False])
def test_critics_learn_the_words_of_generated_reports_as_those_of_real_ones(
    kind_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch, straight_through: bool
) -> None:
    """The gradient of each table of words is that of the whole loss, by finite differences; the words themselves do not
    depend on it."""
    if kind_config.model.kind == "smgan":
        pytest.skip("has no critic of words")
    config = with_overrides(kind_config, {"model.gumbel.straight_through": straight_through})
    torch.manual_seed(0)
    model = build_model(config.model, tiny_spec)
    real = make_batch(NUM)
    critics = {id(parameter) for parameter in model.discriminator_parameters()}
    tables = [p for name, p in model.named_parameters() if "reader.embedding" in name and id(p) in critics]
    assert tables
    model.eval()
    (game,) = games(config, relativistic=True)  # a hinge has kinks
    critics_loss(game, model, real)
    for table in tables:
        assert table.grad is not None
        away_VE = table.grad / table.grad.norm()
        values = []
        for step in (STEP, -STEP):
            table.data += step * away_VE
            values.append(game.discriminator_loss(model, real, FAKE_LABELS, NOISE, row_weights(real))[0].item())
            table.data -= step * away_VE
        assert (values[0] - values[1]) / (2 * STEP) == pytest.approx(table.grad.norm().item(), rel=0.1)


def test_terms_are_finite_and_add_up_to_the_loss(
    kind_config: Config, model: PairedModel, make_batch: MakeBatch
) -> None:
    weights = {"image": 0.5, "report": 0.7, "joint": 0.9, "alpha": 0.3, "beta": 0.6, "teacher_forcing": 2.0,
               "labels": 0.8, "image_labels": 0.2, "gradient_penalty": 0.4}  # fmt: skip
    for game in games(kind_config, relativistic=True, **weights):
        sides = [(generators_loss, "alpha")] + [(critics_loss, "beta")] * game.has_critics
        for play, rotation in sides:
            loss, terms = play(game, model, make_batch(NUM))
            taught = weights["teacher_forcing"]
            weight = weights | {"rotation": weights[rotation], "words": taught, "stops": taught}
            weight |= {"words_of_labels": taught, "stops_of_labels": taught}
            assert loss.item() == pytest.approx(sum(weight[k] * t.item() for k, t in terms.items()), rel=1e-5)
            assert all(term.isfinite() and not term.requires_grad for term in terms.values())


def test_content_of_missing_reports_and_labels_has_no_effect(
    kind_config: Config, model: PairedModel, make_batch: MakeBatch
) -> None:
    real, other = make_batch(NUM), make_batch(NUM)  # row 1 has no labels, row 2 no report
    other.labels_BY[1] = 1 - other.labels_BY[1]
    other.words_BSW[2, 0, :2] = torch.tensor([5, 2])
    weights = row_weights(real)
    model.eval()  # in batch norm rows affect each other
    for game in games(kind_config):
        losses = [game.generator_loss] + [game.discriminator_loss] * game.has_critics
        for loss in losses:
            left, right = (loss(model, batch, FAKE_LABELS, NOISE, weights)[0].item() for batch in (real, other))
            assert left == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("relativistic", [False, True])
def test_whether_labels_are_known_does_not_tell_fakes_from_real_images(
    kind_config: Config, model: PairedModel, make_batch: MakeBatch, relativistic: bool
) -> None:
    """Where no real image has labels, no fake is judged by its own: what critics make of labels changes nothing. Where
    one has, they do."""
    known = make_batch(NUM)
    unknown = replace(known, labelled_B=torch.zeros(NUM, dtype=torch.bool))
    model.eval()
    for game in games(kind_config, relativistic=relativistic):
        losses = [game.generator_loss, game.discriminator_loss] if game.has_critics else []
        for loss in losses:
            before = [loss(model, real, FAKE_LABELS, NOISE, row_weights(real))[0].item() for real in (known, unknown)]
            mix_up_projections(model)
            after = [loss(model, real, FAKE_LABELS, NOISE, row_weights(real))[0].item() for real in (known, unknown)]
            assert after[1] == pytest.approx(before[1], rel=1e-6)
            assert abs(after[0] - before[0]) > 1e-4


def test_whether_there_is_a_report_does_not_tell_fakes_from_real_ones(
    kind_config: Config, model: PairedModel, make_batch: MakeBatch
) -> None:
    """A critic that is told labels judges no generated report of a row without a real one: where such rows lack labels
    too, it would know of all that it judges without labels that it is generated."""
    if kind_config.model.kind not in ("cogan", "jointgan"):
        pytest.skip("its text critics are not told labels")
    real, other_labels = make_batch(NUM), FAKE_LABELS.clone()
    other_labels[2] = 1 - other_labels[2]  # row 2 has no report
    model.eval()
    (game,) = games(kind_config)
    for loss in (game.discriminator_loss, game.generator_loss):
        terms = [loss(model, real, each, NOISE, row_weights(real))[1] for each in (FAKE_LABELS, other_labels)]
        (name,) = {"report", "joint"} & set(terms[0])
        assert terms[0][name].item() == pytest.approx(terms[1][name].item(), rel=1e-6)


def mix_up_projections(model: PairedModel) -> None:
    """Let critics conclude something else from labels."""
    for name, parameter in model.named_parameters():
        if ".projection." in name:
            parameter.data = parameter.data.roll(1, dims=0)


def test_micro_batches_add_up_to_the_batch(kind_config: Config, model: PairedModel, make_batch: MakeBatch) -> None:
    real = make_batch(NUM)
    model.eval()  # in training mode, batch norm sees the micro-batch
    weights = row_weights(real)
    for game in games(kind_config, word_dropout=0.5, relativistic=True, gradient_penalty=0.4, beta=0.5):
        losses = [game.generator_loss] + [game.discriminator_loss] * game.has_critics
        for loss in losses:
            whole = loss(model, real, FAKE_LABELS, NOISE, weights)[0].item()
            parts = [
                loss(model, real.rows(first, 8), FAKE_LABELS[first : first + 8], NOISE.rows(first, 8), weights)[0]
                for first in (0, 8)
            ]
            assert sum(part.item() for part in parts) == pytest.approx(whole, rel=1e-4)


def test_augmented_images_reach_the_discriminators_and_their_gradient_the_generator(
    kind_config: Config, model: PairedModel, make_batch: MakeBatch
) -> None:
    real = make_batch(NUM)
    plain, changed = games(kind_config)[0], games(kind_config, augment=("translation", "cutout"))[0]
    assert critics_loss(plain, model, real)[0].item() != critics_loss(changed, model, real)[0].item()
    model.zero_grad(set_to_none=True)
    generators_loss(changed, model, real)
    image = [p for name, p in model.named_parameters() if name.startswith("image_generator.")]
    assert unreached(image, model) == []


def test_hidden_words_make_real_reports_harder_and_change_nothing_else(
    kind_config: Config, model: PairedModel, make_batch: MakeBatch
) -> None:
    real = make_batch(NUM)
    model.eval()
    num_taught = 0
    for seen, hidden in zip(games(kind_config), games(kind_config, word_dropout=0.9), strict=True):
        with torch.no_grad():
            terms, changed = (
                game.generator_loss(model, real, FAKE_LABELS, NOISE, row_weights(real))[1] for game in (seen, hidden)
            )
        taught = {name for name in terms if name.startswith("words")}
        num_taught += len(taught)
        differs = {name for name in terms if terms[name].item() != pytest.approx(changed[name].item(), rel=1e-6)}
        assert taught <= differs <= taught | {"stops", "stops_of_labels"}
    assert num_taught >= 1


def test_game_in_which_one_side_learns_nothing_is_refused(kind_config: Config) -> None:
    off = dict.fromkeys(("image", "report", "joint", "alpha", "beta", "teacher_forcing"), 0.0)
    with pytest.raises(ConfigError, match="no critic has anything to learn"):
        games(kind_config, **off | {"teacher_forcing": 1.0})
    with pytest.raises(ConfigError, match="no generator has anything to learn"):
        games(kind_config, **off | {"beta": 1.0})


def test_adaptive_augmentation_needs_augmentations_and_an_image_term(kind_config: Config) -> None:
    with pytest.raises(ConfigError, match=r"augment_target"):
        games(kind_config, augment_target=0.6)
    with pytest.raises(ConfigError, match=r"augment_target"):
        games(kind_config, augment_target=0.6, augment=("color",), image=0.0)
    if kind_config.model.kind == "jointgan":
        with pytest.raises(ConfigError, match="no image discriminator for it to follow"):
            games(kind_config, augment_target=0.6, augment=("color",))
