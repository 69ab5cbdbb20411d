"""Training of downstream models: the best weights are kept, and every mixture gets the same number of steps."""

import math
from collections.abc import Callable
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emixer.config.experiment import DownstreamConfig
from emixer.data.pair_table import Mixture, PairTable
from emixer.downstream import fit as fit_module
from emixer.downstream.fit import PairBatch, fit, predict
from emixer.errors import DivergenceError

MakePairs = Callable[..., PairTable]
MakeSettings = Callable[..., DownstreamConfig]
CPU = torch.device("cpu")


class Counter(nn.Module):
    """One weight, which every step lowers by about the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.steps: list[int] = []

    def forward(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        num = len(batch.image_BCHW)
        if self.training:
            self.steps.append(num)
            return self.weight.sum() * num, torch.tensor(num)
        return (self.weight.sum() - 0.9).square() * num, torch.tensor(num)


def loss_of(model: Counter, batch: PairBatch) -> tuple[Tensor, Tensor]:
    return model(batch)


def numbered(num: int, first: int = 0) -> PairTable:
    image = np.broadcast_to(np.arange(first, first + num, dtype=np.uint8)[:, None, None], (num, 2, 2))
    return PairTable(image, np.zeros((num, 1), np.float32), np.zeros((num, 1, 2), np.int32))


def seen_in(train: Mixture, size: int, num_batches: int, seed: int = 0) -> list[list[int]]:
    return [batch.image_NHW[:, 0, 0].tolist() for batch in islice(fit_module._batches(train, size, seed), num_batches)]


def test_weights_with_the_lowest_validation_loss_are_kept(make_settings: MakeSettings) -> None:
    model, settings = Counter(), make_settings(images=320, batch_size=32, validate_every_images=32, lr=0.05)
    found = fit(model, loss_of, Mixture((numbered(64),)), numbered(8), settings, 0, CPU)
    assert model.steps == [32] * 10
    # Adam's steps are as long as the rate, 0.05 (1 + cos(pi t / 10)) / 2: 1 -> 0.950 -> 0.901 -> 0.856 -> ... -> 0.73
    assert model.weight.item() == pytest.approx(1 - 0.05 - 0.05 * (1 + math.cos(math.pi / 10)) / 2, abs=1e-3)
    assert found.images == 64
    assert found.validation_loss == pytest.approx((model.weight.item() - 0.9) ** 2, rel=1e-3)


@pytest.mark.parametrize(
    ("images", "every", "looks"),
    [(320, 96, [96, 192, 288, 320]), (320, 1000, [320]), (100, 32, [32, 64, 96, 128]), (64, 1, [32, 64])],
)
def test_validation_runs_as_often_as_set_and_always_at_the_end(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, images: int, every: int, looks: list[int]
) -> None:
    model, told = Counter(), []
    real = fit_module._mean_loss
    monkeypatch.setattr(fit_module, "_mean_loss", lambda *a: (told.append(sum(model.steps)), real(*a))[1])
    settings = make_settings(images=images, batch_size=32, validate_every_images=every)
    fit(model, loss_of, Mixture((numbered(64),)), numbered(8), settings, 0, CPU)
    assert told == looks


@pytest.mark.parametrize("sizes", [(5,), (64,), (64, 200), (1, 1)])
def test_every_mixture_gets_equally_many_steps_of_one_size(make_settings: MakeSettings, sizes: tuple[int, ...]) -> None:
    model = Counter()
    settings = make_settings(images=256, batch_size=32, validate_every_images=256)
    fit(model, loss_of, Mixture(tuple(map(numbered, sizes))), numbered(8), settings, 0, CPU)
    assert model.steps == [32] * 8


def test_each_epoch_shows_every_pair_once_in_a_new_order() -> None:
    train = Mixture((numbered(7), numbered(5, first=100)))
    batches = seen_in(train, 4, 6)
    first, second = list(chain(*batches[:3])), list(chain(*batches[3:]))
    everything = [*range(7), *range(100, 105)]
    assert sorted(first) == sorted(second) == everything
    assert first != second
    assert first not in (everything, everything[::-1])
    assert seen_in(train, 4, 6) == batches
    assert seen_in(train, 4, 6, seed=1) != batches
    straddling = list(chain(*seen_in(train, 5, 12)))
    assert all(straddling.count(number) == 5 for number in everything)


def test_images_are_augmented_only_in_training_and_by_the_seed(
    make_pairs: MakePairs, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []

    def noting(model: Counter, batch: PairBatch) -> tuple[Tensor, Tensor]:
        shown.append(batch.image_BCHW.clone())
        return model(batch)

    train, validation = Mixture((make_pairs(32, 0),)), make_pairs(16, 1)
    runs = []
    for seed, augment in ((0, ()), (0, ("translation",)), (0, ("translation",)), (1, ("translation",))):
        shown.clear()
        settings = make_settings(images=32, batch_size=32, validate_every_images=32, augment=augment)
        fit(Counter(), noting, train, validation, settings, seed, CPU)
        runs.append(list(shown))
    plain, moved, again, other = runs
    assert not torch.equal(plain[0], moved[0])
    assert torch.equal(moved[0], again[0])
    assert not torch.equal(moved[0], other[0])
    assert torch.equal(plain[1], moved[1]), "the validation images are shown as they are"
    assert plain[0].min() >= -1
    assert plain[0].max() <= 1


def test_losses_that_are_never_finite_are_an_error_with_what_to_lower(make_settings: MakeSettings) -> None:
    def never(model: Counter, batch: PairBatch) -> tuple[Tensor, Tensor]:
        return model.weight.sum() * math.nan, torch.tensor(1)

    settings = make_settings(images=64, batch_size=32)
    with pytest.raises(DivergenceError, match=r"never finite. Lower experiment\.downstream\.lr"):
        fit(Counter(), never, Mixture((numbered(8),)), numbered(8), settings, 0, CPU)


def test_run_that_diverges_late_keeps_its_best_weights(make_settings: MakeSettings) -> None:
    model = Counter()

    def breaking(model: Counter, batch: PairBatch) -> tuple[Tensor, Tensor]:
        total, count = model(batch)
        return total * (math.nan if len(model.steps) > 3 else 1), count

    settings = make_settings(images=320, batch_size=32, validate_every_images=32, lr=0.01)
    found = fit(model, breaking, Mixture((numbered(8),)), numbered(8), settings, 0, CPU)
    assert found.images == 96
    assert model.weight.isfinite().all()


def test_validation_loss_is_a_mean_over_all_that_counts_for_any_batch_size(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = numbered(10)

    def by_value(model: Counter, batch: PairBatch) -> tuple[Tensor, Tensor]:
        value_B = (batch.image_BCHW[:, 0, 0, 0] + 1) * 127.5
        return value_B[value_B > 1.5].sum(), (value_B > 1.5).sum()

    settings = make_settings()
    for size in (3, 128):
        monkeypatch.setattr(fit_module, "_EVAL_BATCH", size)
        loss = fit_module._mean_loss(Counter(), by_value, pairs, settings, CPU)
        assert loss == pytest.approx(sum(range(2, 10)) / 8, rel=1e-5)


def test_predictions_keep_the_order_of_the_pairs_and_the_mode() -> None:
    model = Counter()
    model.train()
    answers = predict(model, lambda m, batch: (batch.image_BCHW[:, 0, 0, 0] + 1) * 127.5, numbered(200), CPU)
    assert answers.round().int().tolist() == list(range(200))
    assert model.training
