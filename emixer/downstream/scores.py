"""Scores of a downstream model's outputs on the real test rows.

Shapes: N test rows, Y labels or classes.
Source: EMIXER §4.2: AUC and accuracy; table 5: AUC, sensitivity and positive predictive value.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from emixer.evaluation.auc_table import measurable
from emixer.evaluation.label_faithfulness import roc_auc
from emixer.evaluation.resampling import Figures, Measure, Rows


def label_figures(logits_NY: Tensor, labels_NY: Tensor, names: Sequence[str]) -> Measure:
    """Return a measure of rows: `auc` and `acc`, means over labels, and `auc/<label>`, `acc/<label>`.

    A label counts if at least MIN_IMAGES test images have it and as many do not; this is decided on all rows. acc:
    share of known labels with the logit on the correct side of 0. labels: 1, 0, NaN unknown.
    """
    used = np.flatnonzero(measurable(labels_NY)).tolist()

    def measure(rows: Rows) -> Figures:
        logits, labels = logits_NY[rows][:, used], labels_NY[rows][:, used]
        known = ~labels.isnan()
        right = ((logits > 0) == (labels == 1)) & known
        auc, acc = roc_auc(logits, labels).tolist(), (right.sum(0) / known.sum(0)).tolist()
        each = {f"auc/{names[y]}": value for y, value in zip(used, auc, strict=True)}
        each |= {f"acc/{names[y]}": value for y, value in zip(used, acc, strict=True)}
        return {"auc": _mean(auc), "acc": _mean(acc), **each}

    return measure


def class_figures(logits_NY: Tensor, labels_NY: Tensor, names: Sequence[str]) -> Measure:
    """Return a measure of rows with one class each: `auc/<class>` (log-odds against the others), `sensitivity/...`
    and `ppv/...` (of the likeliest class), and `acc`. NaN where a class does not occur, or is never predicted."""
    log_odds_NY = _log_odds(logits_NY.double())

    def measure(rows: Rows) -> Figures:
        labels = labels_NY[rows]
        is_class, named = labels == 1, torch.nn.functional.one_hot(logits_NY[rows].argmax(1), len(names)).bool()
        hits = (is_class & named).sum(0)
        columns = {
            "auc": roc_auc(log_odds_NY[rows], labels),
            "sensitivity": hits / is_class.sum(0),
            "ppv": hits / named.sum(0),
        }
        each = {
            f"{kind}/{name}": float(value)
            for kind, values in columns.items()
            for name, value in zip(names, values, strict=True)
        }
        return {"acc": float((is_class & named).any(1).double().mean()), **each}

    return measure


def _log_odds(logits_NY: Tensor) -> Tensor:
    """Return the log-odds of each class against the others; not via the probability, which saturates at 1."""
    others_NYY = logits_NY[:, None].repeat(1, logits_NY.shape[1], 1)
    others_NYY.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return logits_NY - others_NYY.logsumexp(2)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
