"""Downstream models learn what can be learned, determined by their seed alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from emixer.config.experiment import DownstreamConfig
from emixer.data.pair_table import Mixture, PairTable
from emixer.data.vocabulary import END
from emixer.downstream import models
from emixer.downstream.fit import to_device
from emixer.downstream.models import (
    Data,
    class_loss,
    classify_classes,
    classify_images,
    classify_pairs,
    label_loss,
    new_classifier,
    write_reports,
)
from emixer.models.report_decoder import ReportDecoder

MakePairs = Callable[..., PairTable]
MakeSettings = Callable[..., DownstreamConfig]
CPU = torch.device("cpu")


def auc(logits_NY: Tensor, pairs: PairTable, y: int) -> float:
    known_N = ~np.isnan(pairs.labels_NY[:, y])
    return float(roc_auc_score(pairs.labels_NY[known_N, y], logits_NY[torch.from_numpy(known_N), y]))


def one_hot(pairs: PairTable) -> PairTable:
    """Make four classes out of two labels."""
    kind_N = (np.nan_to_num(pairs.labels_NY) @ [1, 2]).astype(int)
    return PairTable(pairs.image_NHW, np.eye(4, dtype=np.float32)[kind_N], pairs.words_NSW)


def test_image_classifier_finds_visible_labels_and_none_in_noise(
    data: Data, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    logits_NY, found = classify_images(data, make_settings(), 0, CPU)
    assert logits_NY.shape == (100, 2)
    assert min(auc(logits_NY, data.test, y) for y in range(2)) > 0.9
    assert 0 < found.images <= 1920
    noise = Data(Mixture((make_pairs(120, 0, told=False),)), make_pairs(64, 2, told=False),
                 make_pairs(100, 3, told=False), data.shape)  # fmt: skip
    of_noise_NY, _ = classify_images(noise, make_settings(images=640), 0, CPU)
    assert max(auc(of_noise_NY, noise.test, y) for y in range(2)) < 0.75


def test_pair_classifier_reads_the_report_if_the_image_is_noise(
    make_pairs: MakePairs, data: Data, make_settings: MakeSettings
) -> None:
    train, validation, test = (make_pairs(num, seed, told=False) for num, seed in ((240, 0), (64, 2), (100, 3)))
    noise = Data(Mixture((train,)), validation, test, data.shape)
    logits_NY, _ = classify_pairs(noise, make_settings(images=4800, lr=2e-2), 0, CPU)
    has_report = np.arange(100) % 8 != 0
    for chosen, least, most in ((has_report, 0.9, 1.0), (~has_report, 0.0, 0.9)):
        pairs = test.take(np.flatnonzero(chosen))
        areas = [auc(logits_NY[torch.from_numpy(chosen)], pairs, y) for y in range(2)]
        assert least <= min(areas)
        assert max(areas) <= most


def test_report_writer_names_what_the_image_shows(data: Data, make_settings: MakeSettings) -> None:
    words_NSW, _ = write_reports(data, make_settings(images=6400), 0, CPU)
    assert (words_NSW.shape, words_NSW.dtype) == ((100, 2, 4), np.int32)
    tokens = data.shape.vocabulary
    assert {tuple(sentence) for report in words_NSW for sentence in tokens.sentences_of(report)} <= {
        (name, "seen") for name in ("cardiomegaly", "edema", "normal")
    }
    named_NY = np.stack([(words_NSW == 4 + y).any((1, 2)) for y in range(2)], axis=1)
    known_NY = ~np.isnan(data.test.labels_NY)
    right, at_random = (named_NY == data.test.labels_NY)[known_NY].mean(), (data.test.labels_NY == 0)[known_NY].mean()
    assert right > at_random + 0.15


@pytest.mark.parametrize("work", [classify_images, classify_pairs, write_reports])
def test_seed_determines_the_answers_and_the_mixture_is_never_changed(
    work: Callable[..., tuple[Tensor, object]], data: Data, make_settings: MakeSettings
) -> None:
    settings = make_settings(images=128, validate_every_images=64, augment=("translation",))
    before = [(p.image_NHW.copy(), p.labels_NY.copy(), p.words_NSW.copy()) for p in data.train.parts]
    (first, found), (again, found_again), (other, found_other) = (work(data, settings, seed, CPU) for seed in (3, 3, 4))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    assert found == found_again
    assert found != found_other
    if work is not write_reports:
        assert not np.array_equal(np.asarray(first), np.asarray(other))
    for part, copies in zip(data.train.parts, before, strict=True):
        for array, copy in zip((part.image_NHW, part.labels_NY, part.words_NSW), copies, strict=True):
            np.testing.assert_array_equal(array, copy)


def test_neither_weights_nor_their_selection_depend_on_the_test_pairs(data: Data, make_settings: MakeSettings) -> None:
    settings = make_settings(images=128, validate_every_images=64)
    tested, found = classify_images(data, settings, 0, CPU)
    swapped = replace(data, test=PairTable(data.test.image_NHW[::-1], 1 - data.test.labels_NY, data.test.words_NSW))
    tested_again, found_again = classify_images(swapped, settings, 0, CPU)
    assert found == found_again
    torch.testing.assert_close(tested_again.flip(0), tested, rtol=0, atol=1e-5)


def test_classes_are_learned_and_start_from_the_pretrained_features(
    data: Data, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = replace(data.shape, label_names=("none", "heart", "water", "both"))
    classes = Data(Mixture(tuple(map(one_hot, data.train.parts))), one_hot(data.validation), one_hot(data.test), shape)
    logits_NY, _ = classify_classes(None, classes, make_settings(images=3840, lr=5e-3), 0, CPU)
    assert (logits_NY.argmax(1).numpy() == classes.test.labels_NY.argmax(1)).mean() > 0.8
    settings = make_settings(images=64, validate_every_images=64)
    begun = {}
    real = models.fit

    def noting(model: torch.nn.Module, *rest: object) -> object:
        begun[len(begun)] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        found = real(model, *rest)
        begun[len(begun)] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return found

    monkeypatch.setattr(models, "fit", noting)
    classify_classes(data, classes, settings, 5, CPU)
    (fresh, pretrained, start, _) = begun.values()
    scratch = new_classifier(settings, 4, 5).state_dict()
    assert len(pretrained["classifier.weight"]) == 2
    assert torch.equal(start["classifier.weight"], scratch["classifier.weight"])
    features = [name for name in start if name.startswith("features.")]
    assert all(torch.equal(start[name], pretrained[name]) for name in features)
    assert not torch.equal(pretrained["features.conv0.weight"], fresh["features.conv0.weight"])
    begun.clear()
    classify_classes(None, classes, settings, 5, CPU)
    assert all(torch.equal(begun[0][name], scratch[name]) for name in scratch)


def test_pretraining_pairs_get_half_of_the_steps(
    data: Data, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    first, settings = Mixture((make_pairs(120, 7),)), make_settings(images=960)
    logits_NY, found = classify_images(replace(data, first=first), settings, 3, CPU)
    model = new_classifier(settings, 2, 3)

    def loss_of(model: models.ChestEncoder, batch: models.PairBatch) -> tuple[Tensor, Tensor]:
        return label_loss(model.logits(model.final_features(batch.image_BCHW)), batch.labels_BY)

    half = make_settings(images=480)
    models.fit(model, loss_of, first, data.validation, half, 3, CPU)
    second = models.fit(model, loss_of, data.train, data.validation, half, 3, CPU)
    expected = models.predict(model, models._image_logits, data.test, CPU)
    assert torch.equal(logits_NY, expected)
    assert found == models.Fit(480 + second.images, second.validation_loss)
    assert not torch.equal(logits_NY, classify_images(data, settings, 3, CPU)[0])


def test_label_loss_sums_known_labels_and_gives_the_rest_no_gradient() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 0.5]], requires_grad=True)
    total, count = label_loss(logits, torch.tensor([[1.0, torch.nan], [0.0, torch.nan]]))
    assert total.item() == pytest.approx(np.log(2) + np.log1p(np.exp(-1)))
    assert count.item() == 2
    total.backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0, 0]
    assert logits.grad[0, 0].item() == pytest.approx(-0.5)


def test_class_loss_is_the_cross_entropy_of_the_one_class() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
    total, count = class_loss(logits, torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 1]]))
    expected = np.log(np.e + 3) + np.log(np.exp(3) + 3) - 3
    assert (total.item(), count.item()) == (pytest.approx(expected), 2)


def decoder_of(data: Data, settings: DownstreamConfig) -> ReportDecoder:
    torch.manual_seed(0)
    shape = data.shape
    decoder = ReportDecoder(
        settings.report_decoder, len(shape.label_names), len(shape.vocabulary), shape.max_sentences, shape.max_words
    )
    return decoder.eval()


def pairs_of(words_NSW: list[list[list[int]]]) -> PairTable:
    num = len(words_NSW)
    return PairTable(np.zeros((num, 32, 32), np.uint8), np.zeros((num, 2), np.float32), np.array(words_NSW, np.int32))


def test_missing_reports_teach_no_word(data: Data, make_settings: MakeSettings) -> None:
    decoder = decoder_of(data, make_settings())
    report, none = [[4, 7, END, 0], [0] * 4], [[0] * 4] * 2
    total, count = models._report_loss(decoder, to_device(pairs_of([report, report]), CPU))
    total_half, count_half = models._report_loss(decoder, to_device(pairs_of([report, none]), CPU))
    assert (count.item(), count_half.item()) == (6, 3)
    assert total_half.item() == pytest.approx(total.item() / 2, rel=1e-5)
    total, count = models._report_loss(decoder, to_device(pairs_of([none]), CPU))
    assert (total.item(), count.item()) == (0, 0)


def test_report_generator_that_reads_the_labels_of_test_images_is_refused(make_settings: MakeSettings) -> None:
    settings = make_settings().report_decoder.model_dump()
    with pytest.raises(ValueError, match=r"report_decoder\.reads must be image"):
        make_settings(report_decoder=settings | {"reads": "image-and-labels"})
