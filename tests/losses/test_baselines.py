"""CoGAN and JointGAN against their papers, in numbers worked out image by image."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emixer.config import Config, with_overrides
from emixer.config.training import LossConfig
from emixer.model_kinds import build_model, build_phases
from emixer.models.cogan import Cogan
from emixer.models.jointgan import Jointgan
from emixer.models.noise import RowNoise
from emixer.models.paired_model import PAD, Batch, ModelSpec
from emixer.training.reporter import averaged
from emixer.training.step import row_weights

NUM = 8
FAKE_LABELS = (torch.arange(NUM)[:, None] % torch.tensor([2, 3, 5]) == 0).float()
OFF = dict.fromkeys(("image", "report", "joint", "alpha", "beta", "teacher_forcing"), 0.0)
MakeBatch = Callable[[int], Batch]


def noise() -> RowNoise:
    return RowNoise(seed=3, step=1, first_row=0, num_rows=NUM, device=torch.device("cpu"))


def built(config: Config, kind: str, spec: ModelSpec) -> nn.Module:
    torch.manual_seed(0)
    return build_model(with_overrides(config, {"model.kind": kind}).model, spec)


@pytest.mark.parametrize("term", ["image", "report", "teacher_forcing"])
def test_each_domain_of_cogan_trains_the_tied_layers(
    tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch, term: str
) -> None:
    """The tied layers of the generators, and of the discriminators, get a gradient from either domain alone."""
    model = built(tiny_config, "cogan", tiny_spec)
    assert isinstance(model, Cogan)
    config = with_overrides(tiny_config, {"model.kind": "cogan"}).model
    (game,) = build_phases(config, LossConfig.model_validate(OFF | {term: 1.0, "beta": 1.0})).objectives
    real = make_batch(NUM)
    game.generator_loss(model, real, FAKE_LABELS, noise(), row_weights(real))[0].backward()
    trunk = [model.image_generator.stem, model.image_generator.embed_labels, model.image_generator.blocks[0]]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for layer in trunk for p in layer.parameters())
    own = [model.image_generator.blocks[1], model.image_generator.to_image]
    touched = any(p.grad is not None for layer in own for p in layer.parameters())
    assert touched == (term == "image"), "the image generator's own layers belong to images"
    model.zero_grad(set_to_none=True)
    if term != "teacher_forcing":
        (game,) = build_phases(config, LossConfig.model_validate(OFF | {term: 1.0})).objectives
        # reports of a fresh generator are all alike: what their discriminator learns is small, but not zero
        game.discriminator_loss(model, real, FAKE_LABELS, noise(), row_weights(real))[0].backward()
        tied = [model.critics.tied, model.critics.real_head, model.critics.projection]
        assert all(p.grad is not None and p.grad.abs().max() > 0 for layer in tied for p in layer.parameters())


def test_cogan_holds_its_tied_layers_once_before_and_after_training(
    tiny_config: Config, tmp_path: Path, train_locally: Callable[..., Any]
) -> None:
    """There is no second copy that could drift, neither in the parameters, nor the averages, nor a checkpoint."""
    config = with_overrides(tiny_config, {"model.kind": "cogan"})
    (state,) = train_locally(config, tmp_path / "run").states
    fresh = build_model(config.model, state.spec)
    with averaged(state) as sampling:
        for model in (fresh, state.model, sampling):
            assert isinstance(model, Cogan)
            tensors = [tensor for tensor in model.state_dict().values() if tensor.numel()]
            assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
            labels = torch.zeros(NUM, len(state.spec.label_names))
            before = model.sample(labels, noise(), temperature=0)
            read = model.report_generator.read(model.tied(labels, noise()).features_BFHW).places_BPV
            with torch.no_grad():
                model.image_generator.stem.bias.add_(torch.linspace(0, 3, model.image_generator.stem.out_features))
            after = model.sample(labels, noise(), temperature=0)
            assert not torch.equal(before.image_BCHW, after.image_BCHW)
            again = model.report_generator.read(model.tied(labels, noise()).features_BFHW).places_BPV
            assert not torch.equal(read, again)
    assert not any("stem" in name or "blocks" in name for name, _ in state.model.report_generator.named_parameters())


def test_cogan_report_term_by_hand(tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch) -> None:
    model = built(tiny_config, "cogan", tiny_spec)
    assert isinstance(model, Cogan)
    model.eval()
    real = make_batch(NUM)
    config = with_overrides(tiny_config, {"model.kind": "cogan"}).model
    (game,) = build_phases(config, LossConfig()).objectives
    _, terms = game.discriminator_loss(model, real, FAKE_LABELS, noise(), row_weights(real))
    with torch.no_grad():
        features = model.report_generator.read(model.tied(FAKE_LABELS, noise()).features_BFHW)
        fake_words = model.report_generator.writer.write(features, noise(), 1.0, unknown=True)

        def logit(words: torch.Tensor, labels: torch.Tensor, labelled: bool) -> float:
            critic = model.critics
            read = critic.report_features(critic.reader.embed(words[None]), words[None] != PAD)
            return critic.real_logit(read, labels[None], torch.tensor([labelled])).item()

        expected = 0.0
        for row in range(NUM):
            if real.has_report_B[row]:
                value = logit(real.words_BSW[row], real.labels_BY[row], bool(real.labelled_B[row]))
                expected += math.log1p(math.exp(-value)) / int(real.has_report_B.sum())
            expected += math.log1p(math.exp(logit(fake_words[row], FAKE_LABELS[row], True))) / NUM
    assert terms["report"].item() == pytest.approx(expected, rel=1e-4)


def jointgan_pairs(model: Jointgan, real: Batch) -> list[list[tuple[torch.Tensor, torch.Tensor, int]]]:
    """Return (image, words, row) for each kind of pair, drawn one kind after the other."""
    decoder, condition = model.report_decoder, model.report_condition

    def image_of(words: torch.Tensor, stream: str) -> torch.Tensor:
        return model.images_of_reports(condition.reader.embed(words), words != PAD, noise().named(stream))

    image = model.images_of_labels(FAKE_LABELS, noise())
    seen = decoder.condition(decoder.read(real.image_BCHW), real.labels_BY, real.labelled_B)
    report_1 = decoder.writer.write(seen, noise().named("1"), 1.0, unknown=True)
    report_3 = decoder.writer.write(
        decoder.condition(decoder.read(image), FAKE_LABELS), noise().named("3"), 1.0, unknown=True
    )
    alone = model.condition_of_labels(FAKE_LABELS, noise().named("report alone"))
    report_4 = decoder.writer.write(alone, noise().named("4"), 1.0, unknown=True)
    kinds = [
        (real.image_BCHW, real.words_BSW),
        (real.image_BCHW, report_1),
        (image_of(real.words_BSW, "image of real report"), real.words_BSW),
        (image, report_3),
        (image_of(report_4, "image of report"), report_4),
    ]
    return [[(images[row], words[row], row) for row in range(NUM)] for images, words in kinds]


@pytest.mark.parametrize(("kind", "names"), [("cogan", ("words", "stops")),
                                             ("jointgan", ("words_of_labels", "stops_of_labels"))])  # fmt: skip
def test_reports_conditioned_on_labels_are_averaged_over_labelled_rows(
    tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch, kind: str, names: tuple[str, ...]
) -> None:
    """With few labels the mean is over few words, not a small share of all words."""
    model = built(tiny_config, kind, tiny_spec).eval()
    config = with_overrides(tiny_config, {"model.kind": kind}).model
    (game,) = build_phases(config, LossConfig()).objectives
    real = make_batch(NUM)

    def terms(batch: Batch) -> list[float]:
        _, found = game.generator_loss(model, batch, FAKE_LABELS, noise(), row_weights(batch))
        return [found[name].item() for name in names]

    few = replace(real, labelled_B=torch.arange(NUM) < 1)
    only = replace(real, has_report_B=real.has_report_B & (torch.arange(NUM) < 1))
    assert terms(few) == pytest.approx(terms(only), rel=1e-5)
    assert terms(few)[0] == pytest.approx(math.log(12), abs=0.5)  # nats per word, untrained: twelve tokens


@pytest.mark.parametrize("reads", ["image", "image-and-labels"])
def test_jointgan_discriminator_classifies_five_kinds_of_pairs(
    tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch, reads: str
) -> None:
    """The mean over kinds of the mean of -log g_kind, pair by pair; the generators want each kind taken for real."""
    tiny_config = with_overrides(tiny_config, {"model.report_decoder.reads": reads})
    model = built(tiny_config, "jointgan", tiny_spec)
    assert isinstance(model, Jointgan)
    model.eval()
    real = make_batch(NUM)
    config = with_overrides(tiny_config, {"model.kind": "jointgan"}).model
    (game,) = build_phases(config, LossConfig()).objectives
    with torch.no_grad():
        _, terms = game.discriminator_loss(model, real, FAKE_LABELS, noise(), row_weights(real))
        _, wanted = game.generator_loss(model, real, FAKE_LABELS, noise(), row_weights(real))
        named, fooled = 0.0, 0.0
        for kind, pairs in enumerate(jointgan_pairs(model, real)):
            used = [pair for pair in pairs if real.has_report_B[pair[2]]]
            for image, words, row in used:
                of_real_row = kind <= 2
                labels = (real.labels_BY if of_real_row else FAKE_LABELS)[row : row + 1]
                critic = model.critic
                logits = critic(
                    image[None], critic.reader.embed(words[None]), words[None] != PAD, labels,
                    real.labelled_B[row : row + 1],
                )  # fmt: skip
                log_g = logits[0].log_softmax(0)
                named -= log_g[kind].item() / len(used) / 5
                if kind > 0:
                    fooled -= log_g[0].item() / len(used) / 4
    assert terms["joint"].item() == pytest.approx(named, rel=1e-4)
    assert wanted["joint"].item() == pytest.approx(fooled, rel=1e-4)


def test_jointgan_samples_in_either_direction(tiny_config: Config, tiny_spec: ModelSpec) -> None:
    images = []
    for direction in ("image_first", "report_first"):
        config = with_overrides(tiny_config, {"model.kind": "jointgan", "model.direction": direction})
        torch.manual_seed(0)
        pairs = build_model(config.model, tiny_spec).sample(FAKE_LABELS, noise(), temperature=0.7)
        assert pairs.image_BCHW.shape == (NUM, 1, 32, 32)
        assert (pairs.words_BSW != PAD).any(dim=(1, 2)).all()
        images.append(pairs.image_BCHW)
    assert not torch.allclose(images[0], images[1])


def test_jointgan_report_gets_gradients_from_the_image_drawn_from_it(
    tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch
) -> None:
    """p(report) p(image | report): the image's gradient passes through the words to the report's prior."""
    model = built(tiny_config, "jointgan", tiny_spec)
    assert isinstance(model, Jointgan)
    config = with_overrides(tiny_config, {"model.kind": "jointgan"}).model
    (game,) = build_phases(config, LossConfig.model_validate(OFF | {"joint": 1.0})).objectives
    real = make_batch(NUM)
    game.generator_loss(model, real, FAKE_LABELS, noise(), row_weights(real))[0].backward()
    for part in (model.report_prior, model.report_condition, model.image_generator.embed_labels):
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters()), part


def test_cogan_draws_labels_for_rows_without_them_before_it_learns_reports(
    tiny_config: Config, tiny_spec: ModelSpec, make_batch: MakeBatch
) -> None:
    """In training mode all rows share the batch norms: what an unlabelled row holds in place of labels has no effect on
    the others, and it is given labels that images do have."""
    model = built(tiny_config, "cogan", tiny_spec)
    assert isinstance(model, Cogan)
    for parameter in model.report_generator.writer.parameters():
        parameter.data *= 4  # what a fresh writer writes hardly depends on what it reads
    config = with_overrides(tiny_config, {"model.kind": "cogan"}).model
    weights = OFF | {"beta": 1.0, "teacher_forcing": 1.0}
    (game,) = build_phases(config, LossConfig.model_validate(weights)).objectives
    real = make_batch(NUM)
    other, drawn = (replace(real, labels_BY=real.labels_BY.clone()) for _ in range(2))
    other.labels_BY[1] = 1 - real.labels_BY[1]
    drawn.labels_BY[1] = FAKE_LABELS[1]
    drawn = replace(drawn, labelled_B=torch.ones(NUM).bool(), has_report_B=real.has_report_B & real.labelled_B)
    words = [
        game.generator_loss(model, batch, FAKE_LABELS, noise(), row_weights(batch))[1]["words"].item()
        for batch in (real, other, drawn)
    ]
    assert words[1:] == pytest.approx(words[:1] * 2, rel=1e-6)
