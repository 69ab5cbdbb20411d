"""A judge prefers pairs that agree with their labels, and its selection keeps the label frequencies."""

from collections.abc import Callable

import numpy as np
import torch

from emixer.config.experiment import DownstreamConfig
from emixer.data.pair_table import Mixture, PairTable
from emixer.downstream.judge import agreement, most_agreed
from emixer.downstream.models import Data

MakePairs = Callable[..., PairTable]
MakeSettings = Callable[..., DownstreamConfig]
CPU = torch.device("cpu")


def test_pairs_that_contradict_their_labels_agree_less(
    data: Data, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    pairs = make_pairs(200, 5)
    labels_NY = (pairs.words_NSW[:, :, :1] == [4, 5]).any(1).astype(np.float32)  # what images show, known or not
    told_N = (pairs.words_NSW != 0).any((1, 2))
    pairs = PairTable(pairs.image_NHW, labels_NY, pairs.words_NSW).take(np.flatnonzero(told_N))
    swapped = np.arange(len(pairs))[::-1]
    other_image = PairTable(pairs.image_NHW[swapped], pairs.labels_NY, pairs.words_NSW)
    other_report = PairTable(pairs.image_NHW, pairs.labels_NY, pairs.words_NSW[swapped])
    whole, image, report = (
        agreement(data, table, make_settings(), CPU) for table in (pairs, other_image, other_report)
    )
    assert whole.dtype == np.float32
    assert whole.min() > 1.5, "of 2: the report says exactly what was asked for, the image shows it"
    wrong_N = (pairs.labels_NY != pairs.labels_NY[swapped]).sum(1)
    assert wrong_N.max() == 2
    np.testing.assert_allclose(whole - report, wrong_N / 2, atol=1e-6, err_msg="half a point a label misstated")
    lost_N = whole - image
    assert lost_N[wrong_N == 2].min() > lost_N[wrong_N == 0].max()


def test_judge_is_trained_on_real_pairs_and_never_sees_test_pairs(
    data: Data, make_pairs: MakePairs, make_settings: MakeSettings
) -> None:
    pairs, settings = make_pairs(40, 5), make_settings(images=320)
    other_test = Data(data.train, data.validation, make_pairs(100, 9, told=False), data.shape)
    other_train = Data(Mixture((make_pairs(120, 8),)), data.validation, data.test, data.shape)
    first, again, other = (agreement(each, pairs, settings, CPU) for each in (data, other_test, other_train))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_best_pairs_of_each_label_combination_are_kept_in_equal_shares() -> None:
    agreement_N = np.array([0.1, 0.9, 0.5, 0.4, 0.8, 0.2], np.float32)
    labels_NY = np.array([[0, 1]] * 4 + [[1, 1]] * 2, np.float32)
    assert most_agreed(agreement_N, labels_NY, 3).tolist() == [1, 2, 4]
    assert most_agreed(agreement_N, labels_NY, 6).tolist() == [0, 1, 2, 3, 4, 5]
    # 4/6 and 2/6 of one row: it goes to the larger share
    assert most_agreed(agreement_N, labels_NY, 1).tolist() == [1]
    assert most_agreed(agreement_N[::-1], labels_NY, 2).tolist() == [1, 4]


def test_labels_are_as_frequent_among_the_selected_as_among_all() -> None:
    generator = np.random.default_rng(0)
    labels_NY = (generator.random((1000, 3)) < [0.1, 0.4, 0.5]).astype(np.float32)
    agreement_N = (2 - labels_NY.sum(1) + generator.random(1000)).astype(np.float32)  # normal images agree most
    rows = most_agreed(agreement_N, labels_NY, 500)
    assert len(set(rows.tolist())) == 500
    np.testing.assert_allclose(labels_NY[rows].mean(0), labels_NY.mean(0), atol=0.005)
    assert labels_NY[np.argsort(-agreement_N)[:500]].mean() < labels_NY.mean() - 0.1, "the best of all are not"
