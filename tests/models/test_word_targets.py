import math

import pytest
import torch

from emixer.models.paired_model import Batch
from emixer.models.word_targets import stop_cross_entropy, word_cross_entropy


def batch_of(words: list[list[list[int]]], has_report: list[bool]) -> Batch:
    rows = len(words)
    return Batch(
        torch.zeros(rows, 1, 1, 1), torch.zeros(rows, 1), torch.ones(rows).bool(), torch.tensor(words),
        torch.tensor(has_report),
    )  # fmt: skip


def test_word_cross_entropy_by_hand() -> None:
    batch = batch_of([[[5, 2, 0]], [[4, 4, 2]]], [True, False])
    logits = torch.zeros(2, 1, 3, 6)
    logits[0, 0, 0, 5] = math.log(5)  # p(5) = 5 / (5 + 5)
    total, count = word_cross_entropy(logits, batch)
    assert total.item() == pytest.approx(math.log(2) + math.log(6), rel=1e-6)
    assert count == 2


def test_stop_cross_entropy_by_hand() -> None:
    # two sentences: CONTINUE, STOP; one sentence: STOP; a row without a report has no target
    batch = batch_of(
        [[[5, 2], [4, 2], [0, 0]], [[4, 2], [0, 0], [0, 0]], [[4, 2], [4, 2], [4, 2]]], [True, True, False]
    )
    logits = torch.zeros(3, 3, 2)
    logits[0, 0] = torch.tensor([math.log(3), 0])  # p(CONTINUE) = 3/4
    logits[0, 1] = torch.tensor([math.log(3), 0])  # p(STOP) = 1/4
    logits[1, 1:] = 100  # behind the last sentence nothing counts
    expected = math.log(4 / 3) + math.log(4) + math.log(2)
    assert stop_cross_entropy(logits, batch).item() == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_reports_costs_nothing() -> None:
    batch = batch_of([[[0, 0]]], [False])
    assert word_cross_entropy(torch.randn(1, 1, 2, 6), batch)[0] == 0
    assert stop_cross_entropy(torch.randn(1, 1, 2), batch) == 0
