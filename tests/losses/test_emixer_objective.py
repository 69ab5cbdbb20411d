import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from emixer.config import Config, with_overrides
from emixer.config.model import GumbelConfig
from emixer.config.training import LossConfig
from emixer.data.conditions import Conditions
from emixer.errors import ConfigError
from emixer.losses.emixer_objective import EmixerObjective
from emixer.model_kinds import build_model, build_phases
from emixer.models.emixer import Emixer
from emixer.models.frozen import frozen
from emixer.models.hierarchical_writer import HierarchicalWriter
from emixer.models.paired_model import PAD, Batch, ModelSpec
from emixer.models.report_writer import WriterInput
from emixer.training.step import row_weights
from tests.losses.players import critics_loss, fake_labels, generator_side, generators_loss, noise, unreached

MakeBatch = Callable[[int], Batch]
OFF = {"image": 0.0, "report": 0.0, "joint": 0.0, "alpha": 0.0, "beta": 0.0, "teacher_forcing": 0.0,
       "labels": 0.0}  # fmt: skip
NUM = 8
NOISE, FAKE_LABELS = noise(NUM), fake_labels(NUM)


@pytest.fixture
def model(tiny_config: Config, tiny_spec: ModelSpec) -> Emixer:
    torch.manual_seed(0)
    model = build_model(tiny_config.model, tiny_spec)
    assert isinstance(model, Emixer)
    nn.init.constant_(model.image_generator.attention.gain, 0.5)  # at 0 the attention layers would have no gradient
    return model


def objective(**weights: float | bool | str | tuple[str, ...]) -> EmixerObjective:
    return EmixerObjective(LossConfig.model_validate(weights), GumbelConfig())


def test_losses_of_soft_words_reach_every_parameter_of_their_player_and_none_of_the_other(
    model: Emixer, make_batch: MakeBatch
) -> None:
    game = EmixerObjective(LossConfig(), GumbelConfig(straight_through=False))
    critics_loss(game, model, make_batch(NUM))
    assert unreached(model.discriminator_parameters(), model) == []
    assert all(parameter.grad is None for parameter in generator_side(model))
    model.zero_grad(set_to_none=True)
    generators_loss(game, model, make_batch(NUM))
    assert unreached(generator_side(model), model) == []
    assert all(parameter.grad is None for parameter in model.discriminator_parameters())


@pytest.mark.parametrize("term", ["report", "joint"])
def test_each_text_discriminator_alone_trains_decoder_and_image_generator(
    model: Emixer, make_batch: MakeBatch, term: str
) -> None:
    generators_loss(objective(**OFF | {term: 1.0}), model, make_batch(NUM))
    # The number of sentences has no gradient, and the encoder learns from real images only
    untrained = (stop_head(model), model.report_decoder.encoder, model.report_decoder.label_head)
    without = {id(p) for module in untrained for p in module.parameters()}
    assert unreached([p for p in generator_side(model) if id(p) not in without], model) == []
    assert all(p.grad is None for p in model.report_decoder.encoder.parameters())


def test_text_discriminators_leave_the_image_generator_alone_if_configured(
    model: Emixer, make_batch: MakeBatch
) -> None:
    game = objective(**OFF | {"report": 1.0, "joint": 1.0, "report_gradient_to_image": False})
    generators_loss(game, model, make_batch(NUM))
    assert all(parameter.grad is None for parameter in model.image_generator.parameters())
    assert model.report_decoder.writer.get_parameter("to_words.weight").grad is not None


def stop_head(model: Emixer) -> nn.Module:
    return model.report_decoder.writer.get_submodule("stop")


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def test_discriminator_terms_by_hand(model: Emixer, make_batch: MakeBatch) -> None:
    """Image by image, with means written out, against the one pass over everything."""
    real = make_batch(NUM)
    _, terms = critics_loss(objective(), model, real)
    with torch.no_grad():
        fake_image = model.generate_images(FAKE_LABELS, NOISE)
        fake_words = model.report_decoder.writer.write(
            model.report_decoder.condition(model.report_decoder.read(fake_image), FAKE_LABELS), NOISE, 1.0, unknown=True
        )

    def image(row: int, images: Tensor, labels: Tensor, labelled: bool) -> float:
        features = model.image_discriminator.features(images[row : row + 1])
        known = torch.tensor([labelled])
        return model.image_discriminator.real_logit(features, labels[row : row + 1], known).item()

    def report(row: int, words: Tensor) -> float:
        one, critic = words[row : row + 1], model.report_discriminator
        return critic(critic.reader.embed(one), one != PAD).item()

    def joint(row: int, images: Tensor, words: Tensor) -> float:
        one, critic = words[row : row + 1], model.joint_discriminator
        return critic(images[row : row + 1], critic.reader.embed(one), one != PAD).item()

    rows = range(NUM)
    with_report = [row for row in rows if real.has_report_B[row]]
    assert len(with_report) == NUM - 1
    expected_image = sum(
        softplus(-image(row, real.image_BCHW, real.labels_BY, bool(real.labelled_B[row])))
        + softplus(image(row, fake_image, FAKE_LABELS, True))
        for row in rows
    )
    assert terms["image"].item() == pytest.approx(expected_image / NUM, rel=1e-4)
    expected_report = sum(softplus(-report(row, real.words_BSW)) for row in with_report) / (NUM - 1)
    expected_report += sum(softplus(report(row, fake_words)) for row in rows) / NUM
    assert terms["report"].item() == pytest.approx(expected_report, rel=1e-4)
    expected_joint = sum(softplus(-joint(row, real.image_BCHW, real.words_BSW)) for row in with_report) / (NUM - 1)
    expected_joint += sum(softplus(joint(row, fake_image, fake_words)) for row in rows) / NUM
    assert terms["joint"].item() == pytest.approx(expected_joint, rel=1e-4)
    assert terms["rotation"].item() == pytest.approx(rotation_by_hand(model, real.image_BCHW), rel=1e-4)


def rotation_by_hand(model: Emixer, images: Tensor) -> float:
    """Return the mean over rows 0 and 4 (a quarter of eight) and the four rotations."""
    costs = []
    for row in (0, 4):
        for turns in range(4):
            features = model.image_discriminator.features(images[row : row + 1].rot90(turns, (2, 3)))
            costs.append(-model.image_discriminator.rotation_logits(features)[0].log_softmax(0)[turns].item())
    return sum(costs) / len(costs)


def test_generator_terms_by_hand(model: Emixer, make_batch: MakeBatch) -> None:
    real = make_batch(NUM)
    model.image_generator.eval()  # so that the images below are those of the step
    _, terms = generators_loss(objective(), model, real)
    with torch.no_grad():
        image = model.generate_images(FAKE_LABELS, NOISE)
        features = model.image_discriminator.features(image)
        logits = model.image_discriminator.real_logit(features, FAKE_LABELS, torch.ones(NUM).bool())
        decoder, critics = model.report_decoder, (model.report_discriminator, model.joint_discriminator)
        words = decoder.writer.write_relaxed(
            decoder.condition(decoder.read(image), FAKE_LABELS), NOISE, GumbelConfig(), [torch.zeros(12, 1)]
        ).words_BSW
        of_report, of_pair = (
            critic(*image_too, critic.reader.embed(words), words != PAD)  # each reads words by its own embedding
            for critic, image_too in zip(critics, ((), (image,)), strict=True)
        )
    for name, logit_B in (("image", logits), ("report", of_report), ("joint", of_pair)):
        assert terms[name].item() == pytest.approx(sum(softplus(-x) for x in logit_B.tolist()) / NUM, rel=1e-4), name
    assert terms["rotation"].item() == pytest.approx(rotation_by_hand(model, image), rel=1e-4)


def test_teacher_forcing_terms_are_means_over_words_and_over_stop_decisions(
    model: Emixer, make_batch: MakeBatch
) -> None:
    real = make_batch(NUM)
    model.report_decoder.eval()
    _, terms = generators_loss(objective(**OFF | {"beta": 1.0, "teacher_forcing": 1.0}), model, real)
    total, count = model.word_cross_entropy(real, NOISE)
    assert terms["words"].item() == pytest.approx((total / count).item(), rel=1e-5)
    writer, places = model.report_decoder.writer, model.report_decoder.read(real.image_BCHW)
    assert isinstance(writer, HierarchicalWriter)
    stops = writer.plan(WriterInput(places)).stop_logits_BS2.log_softmax(2)
    costs = []
    for row in range(NUM):
        num_sentences = int((real.words_BSW[row, :, 0] != PAD).sum())
        costs += [-stops[row, s, int(s == num_sentences - 1)].item() for s in range(num_sentences)]
    assert terms["stops"].item() == pytest.approx(sum(costs) / len(costs), rel=1e-5)
    assert set(terms) == {"words", "stops"}


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over labels, written out."""
    return sum(softplus(-x if y else x) for x, y in zip(logits.tolist(), labels.tolist(), strict=True)) / len(labels)


def test_encoder_learns_the_labels_of_labelled_real_images(model: Emixer, make_batch: MakeBatch) -> None:
    real = make_batch(NUM)
    model.report_decoder.eval()
    _, terms = generators_loss(objective(**OFF | {"alpha": 1.0, "beta": 1.0, "labels": 1.0}), model, real)
    decoder = model.report_decoder
    with torch.no_grad():
        logits = decoder.label_head(decoder.encoder(real.image_BCHW))
    costs = [cross_entropy(logits[row], real.labels_BY[row]) for row in range(NUM) if real.labelled_B[row]]
    assert len(costs) == NUM - 1
    assert terms["labels"].item() == pytest.approx(sum(costs) / len(costs), rel=1e-4)
    assert unreached([*decoder.encoder.parameters(), *decoder.label_head.parameters()], model) == []


def test_image_labels_term_trains_the_generator_but_not_the_encoder(model: Emixer, make_batch: MakeBatch) -> None:
    model.image_generator.eval()
    model.report_decoder.eval()  # otherwise its running statistics would have moved before they are read below
    weights = OFF | {"beta": 1.0, "labels": 1e-9, "image_labels": 1.0}
    _, terms = generators_loss(objective(**weights), model, make_batch(NUM))
    decoder = model.report_decoder
    with torch.no_grad():
        logits = decoder.label_head(decoder.encoder(model.generate_images(FAKE_LABELS, NOISE)))
    costs = [cross_entropy(logits[row], FAKE_LABELS[row]) for row in range(NUM)]
    assert terms["image_labels"].item() == pytest.approx(sum(costs) / NUM, rel=1e-4)
    assert unreached(list(model.image_generator.parameters()), model) == []
    assert decoder.label_head.bias.grad is not None
    assert decoder.label_head.bias.grad.abs().max() < 1e-8  # from the real images only


def test_real_image_with_another_report_is_an_additional_fake(model: Emixer, make_batch: MakeBatch) -> None:
    """If both rows have labels, these differ, and the other row has a report."""
    real = make_batch(NUM)
    real.labels_BY[5] = real.labels_BY[4]
    _, without = critics_loss(objective(), model, real)
    _, terms = critics_loss(objective(mismatched=0.5), model, real)
    critic, expected, pairs = model.joint_discriminator, 0.0, 0
    for row in range(NUM):
        other = (row - 1) % NUM
        differ = not torch.equal(real.labels_BY[row], real.labels_BY[other])
        if differ and real.labelled_B[row] and real.labelled_B[other] and real.has_report_B[other]:
            words = real.words_BSW[other : other + 1]
            with torch.no_grad():
                logit = critic(real.image_BCHW[row : row + 1], critic.reader.embed(words), words != PAD)
            expected += softplus(logit.item())
            pairs += 1
    assert 0 < pairs < NUM - 3
    assert terms["joint"].item() - without["joint"].item() == pytest.approx(0.5 * expected / NUM, rel=1e-3)


def test_patients_who_differ_in_sex_alone_give_no_additional_fake(
    tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch
) -> None:
    vectors = ((0, 0, 0, 1, 0), (1, 0, 1, 0, 1))
    spec = replace(tiny_spec, conditions=Conditions(("sex",), (("F", "M"),)), label_vectors=vectors)
    model = build_model(with_overrides(tiny_config, {"model.conditions": ["sex"]}).model, spec)
    sex_BC = torch.eye(2)[torch.arange(NUM) % 2]
    real = make_batch(NUM)
    real = replace(real, labels_BY=torch.cat([torch.zeros(NUM, 3), sex_BC], dim=1))
    fake_BY = torch.cat([FAKE_LABELS, sex_BC], dim=1)
    joint = [
        game.discriminator_loss(model, real, fake_BY, NOISE, row_weights(real))[1]["joint"].item()
        for game in (objective(), objective(mismatched=0.5))
    ]
    assert joint[0] == joint[1]


@pytest.mark.parametrize(("weights", "named"), [({"image_labels": 1.0, "labels": 0.0}, r"loss\.labels=0"),
                                                ({"mismatched": 1.0, "joint": 0.0}, r"loss\.joint=0")])  # fmt: skip
def test_term_that_needs_another_term_says_so(weights: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        objective(**weights)


def test_phases_are_words_then_images_then_the_full_game(tiny_config: Config) -> None:
    shares = {"model.words_share": 0.3, "model.images_share": 0.5}
    phases = build_phases(with_overrides(tiny_config, shares).model, LossConfig())
    words, images, game = (phases.at(progress) for progress in (0.29, 0.31, 0.81))
    assert (words.has_critics, images.has_critics, game.has_critics) == (False, True, True)
    assert isinstance(images, EmixerObjective)
    assert isinstance(game, EmixerObjective)
    assert (images.loss.image, images.loss.report, images.loss.joint) == (1, 0, 0)
    assert (game.loss.report, game.loss.joint) == (1, 1)
    with pytest.raises(ConfigError, match="leave no part of the run"):
        with_overrides(tiny_config, {"model.words_share": 0.5, "model.images_share": 0.5})
    with pytest.raises(ConfigError, match=r"loss\.image and loss\.beta are 0, so that D_image has nothing"):
        build_phases(with_overrides(tiny_config, shares).model, LossConfig(image=0, beta=0))
    with pytest.raises(ConfigError, match=r"loss\.teacher_forcing is 0"):
        build_phases(with_overrides(tiny_config, shares).model, LossConfig(teacher_forcing=0))


def test_adaptive_augmentation_outlives_a_phase(tiny_config: Config) -> None:
    shares = {"model.words_share": 0.3, "model.images_share": 0.5}
    loss = LossConfig(augment=("color",), augment_target=0.6, augment_images=100)
    phases = build_phases(with_overrides(tiny_config, shares).model, loss)
    images, game = phases.at(0.5).adaptive, phases.at(0.9).adaptive
    assert images is not None
    assert game is not None
    images.follow(torch.tensor(1.0), 40)
    assert game.probability.item() == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("weights", "idle"),
    [
        ({"image": 1.0}, {"report_decoder", "report_discriminator", "joint_discriminator"}),
        ({"report": 1.0}, {"image_discriminator", "joint_discriminator"}),
        ({"joint": 1.0}, {"image_discriminator", "report_discriminator"}),
        ({"beta": 1.0, "alpha": 1.0}, {"report_decoder", "report_discriminator", "joint_discriminator"}),
    ],
)
def test_term_of_weight_zero_does_no_work(
    model: Emixer, make_batch: MakeBatch, weights: dict[str, float], idle: set[str]
) -> None:
    worked: set[str] = set()
    for name, network in model.named_children():
        for leaf in network.modules():
            if not list(leaf.children()):
                leaf.register_forward_hook(lambda *_, name=name: worked.add(name))
    game = objective(**OFF | weights)
    critics_loss(game, model, make_batch(NUM))
    generators_loss(game, model, make_batch(NUM))
    everything = {name for name, _ in model.named_children()}
    reads_words = {"report_discriminator", "joint_discriminator"}  # words are embedded once for both discriminators
    assert everything - worked >= (idle if "report" not in weights and "joint" not in weights else idle - reads_words)
    for name in idle:
        assert all(parameter.grad is None for parameter in model.get_submodule(name).parameters())


def test_losses_are_finite_without_any_report_or_label(model: Emixer, make_batch: MakeBatch) -> None:
    nothing = torch.zeros(NUM, dtype=torch.bool)
    real = make_batch(NUM)
    real = replace(real, labelled_B=nothing, has_report_B=nothing, words_BSW=torch.zeros_like(real.words_BSW))
    for play in (critics_loss, generators_loss):
        loss, _ = play(objective(), model, real)
        assert loss.isfinite()


@pytest.mark.parametrize("augment", [(), ("color", "translation", "cutout")])
def test_two_halves_of_a_batch_add_up_to_the_whole(
    model: Emixer, make_batch: MakeBatch, augment: tuple[str, ...]
) -> None:
    """With statistics that do not depend on the batch; synchronized statistics are tested with two processes."""
    model.eval()
    real, weights = make_batch(NUM), row_weights(make_batch(NUM))

    def gradients(parts: list[slice], of_critics: bool) -> tuple[Tensor, list[Tensor]]:
        side, other = model.discriminator_parameters(), generator_side(model)
        side, other = (side, other) if of_critics else (other, side)
        game = objective(augment=augment)
        play = game.discriminator_loss if of_critics else game.generator_loss
        total = torch.zeros(())
        model.zero_grad()
        with frozen(other):
            for part in parts:
                rows = real.rows(part.start, part.stop - part.start)
                loss, _ = play(model, rows, FAKE_LABELS[part], noise(len(rows), part.start), weights)
                loss.backward()
                total += loss.detach()
        return total, [p.grad.clone() for p in side if p.grad is not None]

    for of_critics in (True, False):
        whole = gradients([slice(0, NUM)], of_critics)
        halves = gradients([slice(0, 4), slice(4, NUM)], of_critics)
        torch.testing.assert_close(whole[0], halves[0])
        for a, b in zip(whole[1], halves[1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_image_discriminators_read_augmented_images_but_the_decoder_does_not(
    model: Emixer, make_batch: MakeBatch
) -> None:
    seen: dict[str, list[Tensor]] = {"image": [], "joint": [], "decoder": []}

    def note(name: str) -> Callable[..., None]:
        return lambda _, inputs: seen[name].append(inputs[0].detach())

    model.image_discriminator.blocks.register_forward_pre_hook(note("image"))
    model.joint_discriminator.blocks.register_forward_pre_hook(note("joint"))
    model.report_decoder.encoder.get_submodule("features.conv0").register_forward_pre_hook(note("decoder"))
    for play in (critics_loss, generators_loss):
        for inputs in seen.values():
            inputs.clear()
        play(objective(augment=("cutout",), alpha=0.0, beta=0.0), model, make_batch(NUM))
        images, pairs = seen["image"][0], seen["joint"][0]
        assert torch.equal(images, pairs)
        gray_share_B = (images == 0).float().mean(dim=(1, 2, 3))
        assert (gray_share_B >= 1 / 16).all()  # half the side squared, of which at least a quarter lies inside
        for read in seen["decoder"]:
            assert ((read == 0).float().mean(dim=(1, 2, 3)) < 1 / 32).all()
        if play is critics_loss:
            real_BCHW, fake_BCHW = (images == 0).chunk(2)
            assert (real_BCHW != fake_BCHW).flatten(1).any(1).all(), "each has a square of its own"


def test_shorter_real_reports_are_judged_as_if_padded(model: Emixer, make_batch: MakeBatch) -> None:
    model.eval()
    real = make_batch(NUM)
    cut = replace(real, words_BSW=real.words_BSW[:, :3])  # no report has more than three sentences
    for play in (critics_loss, generators_loss):
        torch.testing.assert_close(play(objective(), model, real)[0], play(objective(), model, cut)[0])


def test_losses_and_gradients_are_finite_under_bfloat16_autocast(model: Emixer, make_batch: MakeBatch) -> None:
    for play, side in ((critics_loss, model.discriminator_parameters()), (generators_loss, generator_side(model))):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _ = play(objective(), model, make_batch(NUM))
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in side)


def test_model_of_three_channels_accepts_gray_images(
    tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch
) -> None:
    config = tiny_config.model.model_copy(update={"channels": 3})
    model = build_model(config, tiny_spec)
    assert isinstance(model, Emixer)
    for play in (critics_loss, generators_loss):
        assert play(objective(), model, make_batch(NUM))[0].isfinite()
