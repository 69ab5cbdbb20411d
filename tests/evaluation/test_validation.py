"""Tests of emixer.evaluation.validation."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emixer.config.model import EmixerModelConfig
from emixer.evaluation.features import FeatureExtractor
from emixer.evaluation.validation import Validator
from emixer.model_kinds import build_model
from emixer.models.noise import RowNoise
from emixer.models.paired_model import END, Batch, GeneratedPairs, ModelSpec, PairedModel

CPU = torch.device("cpu")
TOKENS = ("<PAD>", "<START>", "<END>", "<UNK>", "no", "effusion", "pneumothorax", "left", "large")
SPEC = ModelSpec(("Pleural Effusion", "Pneumothorax"), TOKENS, ((0, 0), (1, 0), (0, 1)), (2, 1, 1))
SIDE = 32


def real_rows(num: int, seed: int) -> Batch:
    """Return images with a bright left (effusion) or right (pneumothorax) edge, and reports that say so."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(SPEC.label_vectors)[torch.randint(0, 3, (num,), generator=generator)].float()
    image = torch.rand(num, 1, SIDE, SIDE, generator=generator) - 0.8
    image[..., :8] += labels[:, 0, None, None, None] * 0.7
    image[..., -8:] += labels[:, 1, None, None, None] * 0.7
    words = torch.zeros(num, 2, 4, dtype=torch.long)
    for y, token in enumerate((5, 6)):
        words[:, y] = torch.where(
            labels[:, y, None] == 1, torch.tensor([7, token, END, 0]), torch.tensor([4, token, END, 0])
        )
    everyone = torch.ones(num, dtype=torch.bool)
    return Batch(image, labels, everyone, words, everyone.clone())


def batches(num: int, seed: int) -> list[Batch]:
    whole = real_rows(num, seed)
    return [whole.rows(first, min(32, num - first)) for first in range(0, num, 32)]


class Archive(PairedModel):
    """A model that memorised its pairs: it returns the rows it was built with, one after the other."""

    def __init__(self, pairs: Sequence[Batch], report_nats: float = 0.5) -> None:
        super().__init__()
        self.spec, self.report_nats = SPEC, report_nats
        self.image = torch.cat([b.image_BCHW for b in pairs])
        self.words = torch.cat([b.words_BSW for b in pairs])
        self.asked: list[Tensor] = []

    def generator_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {}

    def discriminator_parameters(self) -> list[nn.Parameter]:
        return []

    def ema_modules(self) -> Sequence[str]:
        return ()

    def sample(self, labels_BY: Tensor, noise: RowNoise, temperature: float) -> GeneratedPairs:
        self.asked.append(labels_BY)
        rows = slice(noise.first_row, noise.first_row + noise.num_rows)
        return GeneratedPairs(self.image[rows], self.words[rows])

    def word_cross_entropy(self, batch: Batch, noise: RowNoise) -> tuple[Tensor, Tensor]:
        num = (batch.words_BSW != 0).sum()
        return num * self.report_nats, num


@pytest.fixture(scope="module")
def validation() -> list[Batch]:
    return batches(120, seed=1)


@pytest.fixture(scope="module")
def validator(validation: list[Batch]) -> Validator:
    return Validator.prepare(FeatureExtractor.random(CPU), SPEC, iter(batches(200, seed=0)), validation)


def noise(num: int) -> RowNoise:
    return RowNoise(seed=3, step=0, first_row=0, num_rows=num, device=CPU)


def test_model_that_returns_the_real_rows_scores_like_them(validator: Validator, validation: list[Batch]) -> None:
    metrics = validator.validate(Archive(validation), noise(120))
    assert metrics["fid_random_densenet"] == pytest.approx(0, abs=1e-6)
    for name in ("label_auc", "report_f1", "report_precision", "words_per_report"):
        assert metrics[f"{name}_generated"] == pytest.approx(metrics[f"{name}_real"]), name
    assert metrics["label_auc_real"] > 0.95
    assert metrics["report_f1_real"] == 1.0
    assert metrics["words_per_report_real"] == 4.0  # "left effusion", "no pneumothorax"
    assert metrics["distinct_reports_generated"] == pytest.approx(3 / 120)
    assert "distinct_reports_real" not in metrics
    assert metrics["word_cross_entropy"] == pytest.approx(0.5)
    assert metrics["word_perplexity"] == pytest.approx(np.exp(0.5))


def test_pairs_that_ignore_their_labels_are_detected(validator: Validator) -> None:
    others = batches(120, seed=9)
    metrics = validator.validate(Archive(others), noise(120))
    assert metrics["fid_random_densenet"] < 1.0  # the images themselves are fine
    for label in SPEC.label_names:
        assert 0.3 < metrics[f"label_auc_generated/{label}"] < 0.7
    assert metrics["report_f1_generated"] < 0.6


def test_agreement_is_a_mean_over_the_labels_of_real_reports_whatever_generated_ones_state(
    validator: Validator, validation: list[Batch]
) -> None:
    whole = Archive(validation)
    whole.words[:, 1] = torch.tensor([4, 6, END, 0])  # "no pneumothorax", whatever the image shows
    found = validator.validate(whole, noise(120))
    assert "pair_agreement_generated/Pneumothorax" not in found, "never stated, so not measurable"
    effusion = found["pair_agreement_generated/Pleural Effusion"]
    assert effusion > 0.8
    assert found["pair_agreement_generated"] == pytest.approx((effusion + 0.5) / 2)
    whole = Archive(validation)
    whole.words[:, 1] = torch.tensor([4, 6, END, 0])
    whole.words[::2] = 0
    half = validator.validate(whole, noise(120))["pair_agreement_generated/Pleural Effusion"]
    assert half == pytest.approx(effusion, abs=0.05), "empty reports deny nothing"
    whole.words[:] = 0
    assert validator.validate(whole, noise(120))["pair_agreement_generated"] == 0.5, "reports that say nothing"


def test_means_are_over_the_labels_that_both_sides_can_measure(validation: list[Batch]) -> None:
    # no real row with a pneumothorax has labels or a report
    def without(batch: Batch) -> Batch:
        has_none_B = batch.labels_BY[:, 1] == 0
        return replace(batch, labelled_B=has_none_B, has_report_B=has_none_B)

    some = [without(batch) for batch in validation]
    validator = Validator.prepare(FeatureExtractor.random(CPU), SPEC, batches(200, seed=0), some)
    whole = Archive(validation)
    whole.words[:, 1] = torch.tensor([4, 6, END, 0])  # "no pneumothorax", whatever the image shows
    found = validator.validate(whole, noise(120))
    for name in ("label_auc", "report_f1"):
        assert f"{name}_real/Pneumothorax" not in found
        assert f"{name}_generated/Pneumothorax" in found
        assert found[f"{name}_generated"] == found[f"{name}_generated/Pleural Effusion"]
    whole_of_both = Validator.prepare(FeatureExtractor.random(CPU), SPEC, batches(200, seed=0), validation)
    found = whole_of_both.validate(whole, noise(120))
    each = [found[f"report_f1_generated/{label}"] for label in SPEC.label_names]
    assert found["report_f1_generated"] == pytest.approx(sum(each) / 2)


def test_unlabelled_rows_get_labels_of_the_training_distribution(validation: list[Batch]) -> None:
    unlabelled = [
        Batch(b.image_BCHW, torch.zeros_like(b.labels_BY), torch.zeros_like(b.labelled_B), b.words_BSW, b.has_report_B)
        for b in validation
    ]
    validator = Validator.prepare(FeatureExtractor.random(CPU), SPEC, batches(200, seed=0), unlabelled)
    model = Archive(validation)
    metrics = validator.validate(model, noise(120))
    asked = torch.cat(model.asked)
    assert {tuple(row) for row in asked.int().tolist()} == set(SPEC.label_vectors)
    assert "label_auc_generated" in metrics
    assert "label_auc_real" not in metrics


def test_only_the_image_distance_is_measured_without_labels_and_reports(validation: list[Batch]) -> None:
    bare = [
        Batch(b.image_BCHW, b.labels_BY * 0, ~b.labelled_B, torch.zeros_like(b.words_BSW), ~b.has_report_B)
        for b in validation
    ]
    validator = Validator.prepare(FeatureExtractor.random(CPU), SPEC, bare, bare)
    assert validator.real == {}
    metrics = validator.validate(Archive(bare), noise(120))
    assert "fid_random_densenet" in metrics
    assert "word_cross_entropy" not in metrics
    assert not any(name.startswith("label_auc") for name in metrics)


def test_metrics_of_a_real_model_are_reproducible(validator: Validator, validation: list[Batch]) -> None:
    config = EmixerModelConfig.model_validate(TINY)
    torch.manual_seed(0)
    model = build_model(config, SPEC)
    model.train()
    first, second = (validator.validate(model, noise(120), temperature=0.7) for _ in range(2))
    assert first == second
    assert all(np.isfinite(value) for value in first.values())
    assert first["fid_random_densenet"] > 0.05
    assert model.training
    assert first["word_cross_entropy"] == pytest.approx(np.log(len(TOKENS)), rel=0.3)  # untrained: nearly uniform


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 images"):
        Validator.prepare(FeatureExtractor.random(CPU), SPEC, iter(()), batches(1, seed=0))


TINY = {
    "side_px": SIDE,
    "max_sentences": 2,
    "max_words": 4,
    "image_generator": {"channels": 4, "noise_chunk": 4, "label_embedding": 8},
    "image_discriminator": {"channels": 4},
    "report_decoder": {
        "kind": "hierarchical",
        "encoder": {"growth": 4, "blocks": (1, 1, 1, 1), "stem_channels": 4, "input_px": 32, "frozen": False},
        "sentence_hidden": 8, "word_embedding": 8, "word_hidden": 8, "word_layers": 1,
    },
    "report_discriminator": {"word_embedding": 8, "hidden": 8},
    "joint_discriminator": {"channels": 4, "word_embedding": 8, "hidden": 8},
}  # fmt: skip
