"""Figures of pairs over subsets of rows: which labels count is decided on all rows."""

import numpy as np
import pytest
import torch

from emixer.evaluation.pair_metrics import agreement, faithfulness, label_aucs
from emixer.evaluation.report_mentions import Mention
from emixer.evaluation.resampling import ALL, intervals

NAMES = ("Edema", "Pneumonia")


def rare() -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores and labels of 400 images: Edema is hard to detect; Pneumonia is on six and always detected."""
    generator = torch.Generator().manual_seed(0)
    labels_NY = torch.zeros(400, 2)
    labels_NY[:200, 0], labels_NY[:6, 1] = 1, 1
    scores_NY = torch.randn(400, 2, generator=generator) + labels_NY * torch.tensor([0.3, 20.0])
    return scores_NY, labels_NY


def test_resample_is_a_mean_over_the_labels_of_the_whole_set() -> None:
    scores_NY, labels_NY = rare()
    measure = label_aucs(scores_NY, labels_NY, NAMES)
    whole = measure(ALL)
    assert whole["label_auc/Pneumonia"] == 1.0
    assert whole["label_auc"] == pytest.approx((whole["label_auc/Edema"] + 1) / 2)
    few = np.array([0, 1, 2, 250, 300, 390])  # three images of each kind: too few on their own
    assert set(measure(few)) == set(whole)
    low, high = intervals(measure, [str(n) for n in range(400)], 300)["label_auc"]
    of_edema = intervals(measure, [str(n) for n in range(400)], 300)["label_auc/Edema"]
    assert (low, high) == pytest.approx([(1 + each) / 2 for each in of_edema], abs=1e-3)


def test_label_undefined_on_the_rows_makes_the_mean_undefined() -> None:
    scores_NY, labels_NY = rare()
    without = label_aucs(scores_NY, labels_NY, NAMES)(np.arange(100, 300))
    assert np.isnan(without["label_auc/Pneumonia"])
    assert np.isnan(without["label_auc"])
    assert without["label_auc/Edema"] > 0.5


def test_labels_unknown_to_the_reader_do_not_count() -> None:
    labels_NY = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).repeat(10, 1)
    mentions_NY = np.full((20, 2), Mention.UNMENTIONED, np.int8)
    mentions_NY[::2, 0] = Mention.PRESENT
    both = faithfulness(mentions_NY, labels_NY, NAMES)(ALL)
    one = faithfulness(mentions_NY, labels_NY, NAMES, readable={"Edema"})(ALL)
    assert (both["report_f1"], both["report_f1/Pneumonia"]) == (0.5, 0.0)
    of_edema = {"report_f1": 1.0, "report_f1/Edema": 1.0, "report_precision": 1.0, "report_recall": 1.0}
    assert of_edema.items() <= one.items()
    assert one["report_positive_statements"] == 0.5


def test_uncertain_statements_do_not_count_and_silence_denies() -> None:
    states = [Mention.PRESENT, Mention.UNCERTAIN, Mention.NEGATED, Mention.UNMENTIONED]
    mentions_NY = np.repeat(np.array(states, np.int8), 5)[:, None]
    scores_NY = torch.tensor([2.0, 9.0, 1.0, 3.0]).repeat_interleave(5)[:, None]
    # what is stated is shown more than what is denied and less than what is not mentioned; uncertain, most of all
    assert agreement(scores_NY, mentions_NY, ("Edema",))(ALL)["pair_agreement"] == 0.5


def test_chance_is_the_mean_f1_over_shuffled_reports() -> None:
    generator = np.random.default_rng(3)
    labels_NY = torch.from_numpy((generator.random((200, 2)) < [0.1, 0.4]).astype(np.float32))
    stated_NY = np.where(generator.random((200, 2)) < [0.3, 0.2], Mention.PRESENT, Mention.UNMENTIONED).astype(np.int8)
    found = faithfulness(stated_NY, labels_NY, NAMES)(ALL)
    mixed = [faithfulness(generator.permutation(stated_NY), labels_NY, NAMES)(ALL) for _ in range(2000)]
    for name in ("report_f1", *(f"report_f1/{label}" for label in NAMES)):
        chance = found[name.replace("report_f1", "report_f1_chance")]
        assert chance == pytest.approx(np.mean([each[name] for each in mixed]), abs=0.003)
        assert found[name.replace("report_f1", "report_f1_over_chance")] == pytest.approx(found[name] - chance)


def test_denials_are_counted_separately() -> None:
    """No Finding is no denial, however the reader concludes it."""
    names = ("No Finding", "Edema", "Pneumonia")
    present, absent, silent = Mention.PRESENT, Mention.NEGATED, Mention.UNMENTIONED
    mentions_NY = np.array([[absent, present, absent], [absent, absent, absent], [present, silent, absent],
                            [present, silent, silent]] * 5, np.int8)  # fmt: skip
    labels_NY = torch.tensor([[0.0, 1, 0], [0, 1, 0], [1, 0, 1], [1, 0, 0]]).repeat(5, 1)
    found = faithfulness(mentions_NY, labels_NY, names)(ALL)
    assert found["report_positive_statements"] == 1 / 4
    assert found["report_negative_statements"] == 4 / 4
    assert found["report_negative_precision"] == 2 / 4
    no_denial = faithfulness(np.full_like(mentions_NY, silent), labels_NY, names)(ALL)
    assert no_denial["report_negative_statements"] == 0
    assert "report_negative_precision" not in no_denial, "what cannot be measured is left out"
    assert np.isnan(faithfulness(mentions_NY, labels_NY, names)(np.array([3, 7]))["report_negative_precision"])


def test_agreement_is_between_image_and_report_without_uncertain_mentions() -> None:
    mentions_NY = np.array([[Mention.PRESENT], [Mention.UNMENTIONED], [Mention.NEGATED]] * 5, np.int8)
    scores_NY = torch.tensor([[3.0], [1.0], [2.0]]).repeat(5, 1)
    assert agreement(scores_NY, mentions_NY, ["Edema"])(ALL)["pair_agreement"] == 1.0
    mentions_NY[0], scores_NY[0] = Mention.UNCERTAIN, -9
    twice = agreement(scores_NY.repeat(2, 1), np.tile(mentions_NY, (2, 1)), ["Edema"])(ALL)
    assert twice["pair_agreement"] == 1.0
    assert agreement(scores_NY, mentions_NY, ["Nobody Knows"])(ALL) == {}
    assert agreement(None, mentions_NY, ["Edema"])(ALL) == {}


def test_uncertain_mention_is_neither_stated_nor_denied() -> None:
    labels_NY = torch.tensor([[1.0], [0.0]]).repeat(10, 1)
    mentions_NY = np.array([[Mention.PRESENT], [Mention.NEGATED]] * 10, np.int8)
    mentions_NY[:2] = Mention.UNCERTAIN
    found = faithfulness(mentions_NY, labels_NY, ["Edema"])(ALL)
    assert (found["report_precision"], found["report_recall"]) == (1.0, 0.9)
    assert (found["report_positive_statements"], found["report_negative_statements"]) == (9 / 20, 9 / 20)
    assert found["report_negative_precision"] == 1.0
