"""Tests of emixer.evaluation.label_faithfulness."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from emixer.evaluation.label_faithfulness import LabelJudge, _ridge_by_leave_one_out, roc_auc


def test_auc_matches_scikit_learn_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 7, (200, 5), generator=generator).float()
    labels = (torch.rand(200, 5, generator=generator) < 0.3).float()
    expected = [roc_auc_score(labels[:, y], scores[:, y]) for y in range(5)]
    areas = roc_auc(scores, labels)
    assert areas.dtype == torch.float64
    np.testing.assert_allclose(areas, expected, rtol=1e-12)


def test_auc_by_hand() -> None:
    # present: 0.9, 0.4; absent: 0.5, 0.1 -> three of four pairs are in the right order
    scores = torch.tensor([[0.9], [0.5], [0.4], [0.1]])
    labels = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    assert roc_auc(scores, labels).item() == 0.75


def test_images_with_unknown_labels_do_not_count() -> None:
    scores = torch.tensor([[0.9], [7.0], [0.5], [-3.0], [0.4], [0.1]])
    labels = torch.tensor([[1.0], [-1.0], [0.0], [torch.nan], [1.0], [0.0]])
    assert roc_auc(scores, labels).item() == 0.75


def test_label_that_never_or_always_occurs_has_no_auc() -> None:
    areas = roc_auc(torch.rand(6, 2), torch.tensor([[0.0, 1.0]]).expand(6, 2))
    assert areas.isnan().all()


def test_judge_finds_labels_linear_in_the_features_but_not_noise() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(900, 40, generator=generator)
    shown = (x @ torch.randn(40, 3, generator=generator) + torch.randn(900, 3, generator=generator) > 3).float()
    noise = (torch.rand(900, 1, generator=generator) < 0.3).float()
    labels = torch.cat([shown, noise], dim=1)
    areas = roc_auc(LabelJudge.fit(x[:600], labels[:600]).score(x[600:]), labels[600:])
    assert (areas[:3] > 0.9).all()
    assert 0.35 < areas[3] < 0.65


def test_ridge_strength_matches_leave_one_out_in_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(30, 50, generator=generator, dtype=torch.float64)
    t = (x[:, :1] + torch.randn(30, 1, generator=generator, dtype=torch.float64) > 0).double()
    x, t = x - x.mean(0), t - t.mean(0)
    weight = _ridge_by_leave_one_out(x, t)
    strengths = float(torch.linalg.svdvals(x).max() ** 2) * np.logspace(-6, 1, 15)
    errors = [
        (
            (cross_val_predict(Ridge(alpha=a), x.numpy(), t[:, 0].numpy(), cv=LeaveOneOut()) - t[:, 0].numpy()) ** 2
        ).mean()
        for a in strengths
    ]
    expected = Ridge(alpha=strengths[int(np.argmin(errors))]).fit(x.numpy(), t[:, 0].numpy())
    np.testing.assert_allclose(weight[:, 0], expected.coef_, rtol=1e-6)


def test_constant_features_are_ignored() -> None:
    x = torch.tensor([[0.0, 5.0], [1.0, 5.0], [0.1, 5.0], [0.9, 5.0]])
    labels = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    judge = LabelJudge.fit(x, labels)
    assert torch.isfinite(judge.score(torch.tensor([[0.5, 77.0]]))).all()
    assert roc_auc(judge.score(x), labels).item() == 1.0


def test_judge_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="labelled images"):
        LabelJudge.fit(torch.zeros(0, 4), torch.zeros(0, 2))
