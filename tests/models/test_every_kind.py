"""What the trainer, the generator and the evaluation require of every kind of model."""

from collections.abc import Callable

import pytest
import torch

from emixer.config import Config
from emixer.model_kinds import build_model
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, ModelSpec, PairedModel


def noise(num_rows: int, first_row: int = 0) -> RowNoise:
    return RowNoise(seed=3, step=0, first_row=first_row, num_rows=num_rows, device=torch.device("cpu"))


@pytest.fixture
def model(kind_config: Config, tiny_spec: ModelSpec) -> PairedModel:
    torch.manual_seed(0)
    return build_model(kind_config.model, tiny_spec)


def labels(num_rows: int) -> torch.Tensor:
    return (torch.arange(num_rows)[:, None] % torch.tensor([2, 3, 5]) == 0).float()


def test_sample_is_an_image_and_a_report_per_row_and_does_not_change_the_model(model: PairedModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pairs = model.sample(labels(5), noise(5), temperature=0.7)
    assert pairs.image_BCHW.shape == (5, 1, 32, 32)
    assert pairs.image_BCHW.dtype == torch.float32
    assert pairs.words_BSW.shape == (5, 4, 6)
    assert pairs.words_BSW.dtype == torch.int64
    assert model.training
    assert all(part.training for part in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_sampled_rows_do_not_depend_on_the_split(model: PairedModel) -> None:
    whole = model.sample(labels(32), noise(32), temperature=1.0)
    halves = [model.sample(labels(32)[i : i + 16], noise(16, i), temperature=1.0) for i in (0, 16)]
    torch.testing.assert_close(whole.image_BCHW, torch.cat([half.image_BCHW for half in halves]))
    assert torch.equal(whole.words_BSW, torch.cat([half.words_BSW for half in halves]))
    again = model.sample(labels(32)[16:], noise(16, 16), temperature=1.0)
    assert torch.equal(again.image_BCHW, halves[1].image_BCHW)


def test_same_noise_with_other_labels_gives_another_image(model: PairedModel) -> None:
    first = model.sample(torch.zeros(2, 3), noise(2), temperature=0)
    second = model.sample(torch.ones(2, 3), noise(2), temperature=0)
    assert (first.image_BCHW - second.image_BCHW).abs().max() > 1e-3


def test_every_parameter_has_one_player_and_sampling_uses_no_discriminator(model: PairedModel) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = model.generator_parameters()
    assert set(groups) == {"image", "report"}
    generators = [names[id(p)] for group in groups.values() for p in group]
    critics = [names[id(p)] for p in model.discriminator_parameters()]
    assert sorted(generators + critics) == sorted(names.values())
    assert all(name.startswith(tuple(f"{module}." for module in model.ema_modules())) for name in generators)
    before = model.sample(labels(4), noise(4), temperature=0)
    with torch.no_grad():
        for parameter in model.discriminator_parameters():
            parameter.fill_(torch.nan)
    after = model.sample(labels(4), noise(4), temperature=0)
    assert torch.equal(before.image_BCHW, after.image_BCHW)
    assert torch.equal(before.words_BSW, after.words_BSW)


def test_word_cross_entropy_counts_words_and_falls_as_the_words_become_likely(
    model: PairedModel, make_batch: Callable[[int], Batch]
) -> None:
    batch = make_batch(6)
    total, count = model.word_cross_entropy(batch, noise(6))
    assert 0 < count <= (batch.words_BSW != 0).sum()
    assert total / count == pytest.approx(2.5, abs=0.4)  # untrained: nearly uniform over twelve tokens
    bias = next(p for name, p in model.named_parameters() if name.endswith("to_words.bias"))
    with torch.no_grad():
        bias[int(batch.words_BSW[0, 0, 0])] += 1.0
        bias[2] += 1.0  # the end token, which every sentence has
    better, _ = model.word_cross_entropy(batch, noise(6))
    assert better < total
    assert model.training


def test_step_updates_only_the_spectral_norms(model: PairedModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():  # away from the fixed point found by the first iterations
        for name, tensor in model.state_dict().items():
            if name.endswith("original"):
                tensor.add_(torch.randn_like(tensor))
                before[name] = tensor.clone()
    model.begin_step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    vectors = {name for name in before if name.endswith(("left_O", "right_I"))}
    of_one_element = {name for name in vectors if before[name].numel() == 1}  # 1 or -1: it may change its sign
    assert moved | of_one_element == vectors
