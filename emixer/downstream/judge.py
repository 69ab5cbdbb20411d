"""Selection of generated pairs: a judge trained on real pairs scores how well each agrees with its labels.

For an image, the score is the probability that a classifier gives to each label as requested; for a report, whether the
rule-based labeler finds each label stated exactly if it was requested. The best of each combination of labels are
kept, so that selection does not change label frequencies: otherwise it would prefer normal images, where agreement is
easy.

Shapes: N pairs, Y labels.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from emixer.config.experiment import DownstreamConfig
from emixer.data.pair_table import PairTable
from emixer.downstream.models import Data, image_probabilities
from emixer.evaluation.report_mentions import READABLE_LABELS, Mention, mentions

_READ_AT_ONCE = 10_000
_SEED = 2**31 - 1
"""Seed of the judge, and of no downstream model for which it selects."""


def agreement(
    real: Data, generated: PairTable, settings: DownstreamConfig, device: torch.device
) -> NDArray[np.float32]:
    """Return how well image and report of each generated pair agree with its labels, float32 (N,) from 0 to 2.

    real: what the judge is trained and selected on; its test pairs are not used.
    """
    asked_NY = np.array(generated.labels_NY) == 1
    present_NY = image_probabilities(real, generated, settings, _SEED, device).numpy()
    image_N = np.where(asked_NY, present_NY, 1 - present_NY).mean(1)
    agreement_N: NDArray[np.float32] = (image_N + _reports_agree(generated, asked_NY, real)).astype(np.float32)
    return agreement_N


def most_agreed(agreement_N: NDArray[np.float32], labels_NY: NDArray[np.float32], num: int) -> NDArray[np.int64]:
    """Return the rows of the `num` best, ascending: the same share of each combination of labels, to within one row."""
    share = num / len(agreement_N)
    _, kind_N = np.unique(np.asarray(labels_NY), axis=0, return_inverse=True)
    kind_N = kind_N.reshape(-1)
    best_first = np.lexsort((np.arange(len(agreement_N)), -agreement_N, kind_N))
    counts_K = np.bincount(kind_N)
    quota_K = np.floor(counts_K * share).astype(np.int64)
    remainder_K = counts_K * share - quota_K
    quota_K[np.argsort(-remainder_K, kind="stable")[: num - quota_K.sum()]] += 1
    place_N = np.arange(len(best_first)) - np.repeat(np.cumsum(counts_K) - counts_K, counts_K)
    return np.sort(best_first[place_N < np.repeat(quota_K, counts_K)])


def _reports_agree(generated: PairTable, asked_NY: NDArray[np.bool_], real: Data) -> NDArray[np.float64]:
    """Return the share (N,) of the readable labels that a report states as requested; 0 if none is readable."""
    names = real.shape.label_names
    readable = [y for y, name in enumerate(names) if name in READABLE_LABELS]
    if not readable:
        return np.zeros(len(generated))
    vocabulary = real.shape.vocabulary
    # in pieces: the labeler remembers the sentences of a piece, and there may be hundreds of thousands of reports
    read = [
        mentions(map(vocabulary.sentences_of, piece.words_NSW), names) for piece in generated.batches(_READ_AT_ONCE)
    ]
    stated_NY = np.concatenate(read) == Mention.PRESENT
    share_N: NDArray[np.float64] = (stated_NY == asked_NY)[:, readable].mean(1)
    return share_N
