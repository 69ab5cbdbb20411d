"""Whether generated images show their labels, according to a judge fitted on real images.

One judge is the classifier of an encoder, for the labels that it was trained on. The other is a linear probe: ridge
regression from image features to labels. It is weak on purpose: it fits in a second, it cannot memorise, and its scores
on generated images are only read beside those on real held-out ones. An AUC on generated images near the real one means
that conditioning works as far as this judge can see.

Shapes: N images, F features, Y labels, L ridge strengths.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from emixer.evaluation.features import FeatureExtractor

_RIDGE_STRENGTHS = 15


class Judge(Protocol):
    """Scores images for each label; higher means more likely present. Not probabilities."""

    def score(self, features_NF: Tensor) -> Tensor:
        """Scores (N, Y) float32; NaN throughout for a label unknown to this judge."""
        ...


@dataclass(frozen=True)
class EncoderJudge:
    """Judge that uses the classifier of the encoder that the features come from."""

    extractor: FeatureExtractor
    label_names: tuple[str, ...]

    def score(self, features_NF: Tensor) -> Tensor:
        """See `Judge.score`."""
        logits_NK = self.extractor.label_logits(features_NF)
        known = {name: logits_NK[:, k] for k, name in enumerate(self.extractor.label_names)}
        unknown_N = features_NF.new_full((len(features_NF),), torch.nan)
        return torch.stack([known.get(name, unknown_N) for name in self.label_names], dim=1).float()


@dataclass(frozen=True)
class LabelJudge:
    """Linear probe that scores images for each label; higher means more likely present. Not probabilities."""

    mean_F: Tensor
    scale_F: Tensor
    weight_FY: Tensor

    @classmethod
    def fit(cls, features_NF: Tensor, labels_NY: Tensor) -> Self:
        """Fit on real images. labels: 1 present, 0 not. Raises ValueError for fewer than two images.

        The ridge strength of each label is the one with the smallest leave-one-out error, which has a closed form.
        """
        if len(features_NF) < 2:
            raise ValueError(f"The judge needs labelled images; {len(features_NF)} were given, at least 2 are needed.")
        features_NF, labels_NY = features_NF.double(), labels_NY.double()
        mean_F, scale_F = features_NF.mean(0), features_NF.std(0)
        scale_F = torch.where(scale_F > 1e-9 * scale_F.max(), scale_F, torch.inf)  # ignore constant features
        weight_FY = _ridge_by_leave_one_out((features_NF - mean_F) / scale_F, labels_NY - labels_NY.mean(0))
        return cls(mean_F.float(), scale_F.float(), weight_FY.float())

    def score(self, features_NF: Tensor) -> Tensor:
        """Scores (N, Y) float32."""
        return ((features_NF.float() - self.mean_F) / self.scale_F) @ self.weight_FY


def roc_auc(scores_NY: Tensor, labels_NY: Tensor) -> Tensor:
    """AUC of each column by the rank statistic, ties counted half: (Y,) float64, NaN where only one class occurs.

    labels: 1 present, 0 absent; other values are excluded from that column. A column with a NaN score is NaN.
    """
    present_YN, absent_YN = labels_NY.T == 1, labels_NY.T == 0
    # excluded images rank last, so that they do not affect the ranks of the rest
    scores_YN = scores_NY.T.double().masked_fill(~(present_YN | absent_YN), torch.inf).contiguous()
    sorted_YN = scores_YN.sort(dim=1).values
    below_YN = torch.searchsorted(sorted_YN, scores_YN)
    up_to_YN = torch.searchsorted(sorted_YN, scores_YN, right=True)
    rank_YN = (below_YN + up_to_YN + 1).double() / 2  # whole numbers divided are float32
    num_present_Y, num_absent_Y = present_YN.sum(1), absent_YN.sum(1)
    rank_sum_Y = (rank_YN * present_YN).sum(1)
    wins_Y = rank_sum_Y - num_present_Y * (num_present_Y + 1) / 2
    area_Y = wins_Y / (num_present_Y * num_absent_Y)  # 0 / 0 is NaN
    return area_Y.masked_fill(scores_NY.isnan().any(0), torch.nan)


def _ridge_by_leave_one_out(x_NF: Tensor, t_NY: Tensor) -> Tensor:
    """Ridge weights (F, Y) of centred x and t. With x = U S V', strength r fits U diag(S^2 / (S^2 + r)) U' t."""
    u_NK, s_K, v_KF = torch.linalg.svd(x_NF, full_matrices=False)
    strengths_L = s_K.max().square() * torch.logspace(-6, 1, _RIDGE_STRENGTHS, dtype=x_NF.dtype, device=x_NF.device)
    shrink_LK = s_K.square() / (s_K.square() + strengths_L[:, None])
    projected_KY = u_NK.T @ t_NY
    residual_LNY = t_NY - torch.einsum("nk,lk,ky->lny", u_NK, shrink_LK, projected_KY)
    leverage_LN = shrink_LK @ u_NK.square().T + 1 / len(x_NF)  # the subtracted mean is a parameter too
    error_LY = (residual_LNY / (1 - leverage_LN).clamp_min(1e-6)[..., None]).square().mean(1)
    best_Y = error_LY.argmin(0)
    inverse_YK = s_K / (s_K.square() + strengths_L[best_Y][:, None])
    weight_FY: Tensor = v_KF.T @ (inverse_YK.T * projected_KY)
    return weight_FY
