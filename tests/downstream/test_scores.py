"""Figures of labels and classes, against scikit-learn and by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from emixer.downstream.scores import class_figures, label_figures

ALL = slice(None)
CLASSES = ("Normal", "Bacterial", "Viral", "COVID")


def logits_and_labels(num: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(num, columns, generator=generator) < 0.4).float()
    return torch.randn(num, columns, generator=generator) + labels, labels


def test_aucs_and_accuracies_match_scikit_learn_over_known_labels() -> None:
    logits, labels = logits_and_labels(80, 3)
    labels[:20, 1] = torch.nan
    figures = label_figures(logits, labels, ("A", "B", "C"))(ALL)
    for y, name in enumerate("ABC"):
        known = ~labels[:, y].isnan()
        assert figures[f"auc/{name}"] == pytest.approx(roc_auc_score(labels[known, y], logits[known, y]))
        right = (logits[known, y] > 0) == (labels[known, y] == 1)
        assert figures[f"acc/{name}"] == pytest.approx(right.float().mean().item())
    assert figures["auc"] == pytest.approx(np.mean([figures[f"auc/{name}"] for name in "ABC"]))
    assert figures["acc"] == pytest.approx(np.mean([figures[f"acc/{name}"] for name in "ABC"]))


def test_accuracy_by_hand() -> None:
    labels = torch.tensor([[1.0]] * 5 + [[0.0]] * 5)
    logits = torch.tensor([[3.0], [0.1], [-0.1], [-2.0], [0.0], [0.0], [-1.0], [5.0], [-0.2], [-0.3]])
    figures = label_figures(logits, labels, ("A",))(ALL)
    assert figures["acc"] == pytest.approx(0.6)  # at logit 0 a label is not called present
    assert figures["auc"] == pytest.approx(14.5 / 25)  # over pairs: 4 + 4 + 3 + 0 + 3.5


def test_label_with_too_few_test_images_is_left_out_of_every_mean() -> None:
    logits, labels = logits_and_labels(60, 2)
    labels[:, 1] = 0
    labels[:4, 1] = 1
    measure = label_figures(logits, labels, ("A", "B"))
    assert set(measure(ALL)) == {"auc", "acc", "auc/A", "acc/A"}
    assert set(measure(np.array([0, 0, 1, 2, 3]))) == {"auc", "acc", "auc/A", "acc/A"}
    labels[4, 1] = 1
    assert "auc/B" in label_figures(logits, labels, ("A", "B"))(ALL)


def test_means_are_undefined_if_nothing_can_be_measured() -> None:
    logits, labels = logits_and_labels(60, 2)
    figures = label_figures(logits, torch.zeros_like(labels), ("A", "B"))(ALL)
    assert set(figures) == {"auc", "acc"}
    assert all(math.isnan(value) for value in figures.values())
    measure = label_figures(logits, labels, ("A", "B"))
    only_absent = measure(np.flatnonzero((labels == 0).all(1).numpy()))
    assert math.isnan(only_absent["auc"])
    assert math.isfinite(only_absent["acc"])


def test_rows_drawn_twice_count_twice() -> None:
    logits, labels = logits_and_labels(60, 1)
    rows = np.random.default_rng(0).integers(60, size=60)
    figures = label_figures(logits, labels, ("A",))(rows)
    assert figures["auc/A"] == pytest.approx(roc_auc_score(labels[rows, 0], logits[rows, 0]))


def test_class_figures_match_scikit_learn_one_vs_rest() -> None:
    generator = torch.Generator().manual_seed(1)
    kind = torch.randint(4, (90,), generator=generator)
    labels = torch.nn.functional.one_hot(kind, 4).float()
    logits = torch.randn(90, 4, generator=generator) + 2 * labels
    figures = class_figures(logits, labels, CLASSES)(ALL)
    probability, named = torch.softmax(logits, 1), logits.argmax(1)
    for y, name in enumerate(CLASSES):
        assert figures[f"auc/{name}"] == pytest.approx(roc_auc_score(kind == y, probability[:, y]))
        assert figures[f"sensitivity/{name}"] == pytest.approx(recall_score(kind == y, named == y))
        assert figures[f"ppv/{name}"] == pytest.approx(precision_score(kind == y, named == y))
    assert figures["acc"] == pytest.approx((named == kind).float().mean().item())


def test_class_figures_by_hand_with_a_class_never_predicted_and_one_absent() -> None:
    named = torch.tensor([0, 0, 1, 1, 0])
    kind = torch.tensor([0, 0, 0, 1, 2])
    logits, labels = torch.nn.functional.one_hot(named, 4) * 4.0, torch.nn.functional.one_hot(kind, 4).float()
    figures = class_figures(logits, labels, CLASSES)(ALL)
    assert figures["sensitivity/Normal"] == pytest.approx(2 / 3)
    assert figures["ppv/Normal"] == pytest.approx(2 / 3)
    assert (figures["sensitivity/Bacterial"], figures["ppv/Bacterial"]) == (1, 0.5)
    assert figures["sensitivity/Viral"] == 0
    assert math.isnan(figures["ppv/Viral"])
    assert math.isnan(figures["sensitivity/COVID"])
    assert math.isnan(figures["auc/COVID"])
    assert figures["acc"] == pytest.approx(0.6)


def test_log_odds_still_rank_images_at_very_high_confidence() -> None:
    labels = torch.tensor([[0.0, 1, 0, 0], [1.0, 0, 0, 0], [1.0, 0, 0, 0], [0.0, 1, 0, 0]])
    for scale in (1, 3, 1000):  # as a model trained for long may output
        logits = torch.tensor([[12.0, 0, 0, 0], [20.0, 0, 0, 0], [16.0, 0, 0, 0], [0.0, 1, 0, 0]]) * scale
        assert class_figures(logits, labels, CLASSES)(ALL)["auc/Normal"] == 1
        assert class_figures(-logits, 1 - labels, CLASSES)(ALL)["auc/Normal"] == 1
