"""Report scores against the library on plain strings and against values worked out by hand; diversity."""

import math
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from emixer.evaluation.resampling import intervals, resampled_rows
from emixer.evaluation.text_scores import (
    TextScores,
    VerbatimShare,
    distinct_n,
    text_scores,
    verbatim_share,
)

Reports = list[list[list[str]]]
WORDS = frozenset(["heart", "normal", "lungs", "clear", "no", "effusion", "unclear"])
NAMES = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"]

tokens = st.sampled_from(["a", "b", "c", "é", "5:12", "<UNK>", ","])
sentences = st.lists(tokens, max_size=6)
reports_of_any_length = st.lists(sentences, max_size=3)
reports_alike = st.lists(st.sampled_from([[], ["a"], ["b"], ["a", "b"]]), max_size=3)  # often identical
written_reports = reports_of_any_length.filter(any)
rows_of_a_corpus = st.tuples(reports_of_any_length, st.lists(written_reports, min_size=1, max_size=3))
corpora = st.lists(rows_of_a_corpus, min_size=1, max_size=6)


def report(text: str) -> list[list[str]]:
    """Split a text into sentences of tokens: "a b. c" is [[a, b], [c]]."""
    return [part.split() for part in text.split(".") if part.strip()]


def bootstrapped(scores: TextScores, subjects: list[str], seed: int = 0) -> dict[str, tuple[float, float]]:
    return intervals(scores.figures, subjects, 1000, seed)


def made_up(num: int, seed: int) -> tuple[Reports, list[Reports]]:
    """Return reports of which about two tokens in three are those of their reference."""
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(30)]
    written = [[list(rng.choice(words, rng.integers(4, 9))) for _ in range(3)] for _ in range(num)]
    generated = [
        [[w if rng.random() < 0.66 else str(rng.choice(words)) for w in s] for s in one[: rng.integers(1, 4)]]
        for one in written
    ]
    return generated, [[one] for one in written]


def as_strings(reports: Reports) -> list[str]:
    return [" ".join(token for sentence in one for token in sentence) for one in reports]


def of_library(reports: Reports, references: list[Reports]) -> dict[str, float]:
    """Return the library's corpus scores through its public interface: dicts of strings."""
    res = {i: [line] for i, line in enumerate(as_strings(reports))}
    gts = {i: as_strings(several) for i, several in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    return dict(
        zip(NAMES, [*bleu, Rouge().compute_score(gts, res)[0], Cider().compute_score(gts, res)[0]], strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(corpora)
def test_scores_match_the_library(rows: list[tuple[list, Reports]]) -> None:
    reports, references = [one for one, _ in rows], [several for _, several in rows]
    assert text_scores(reports, references).figures() == pytest.approx(of_library(reports, references), abs=1e-9)


def test_scores_of_each_report_match_the_library() -> None:
    reports, references = made_up(8, seed=0)
    res = {i: [line] for i, line in enumerate(as_strings(reports))}
    gts = {i: as_strings(several) for i, several in enumerate(references)}
    scores = text_scores(reports, references)
    bleu_NK = np.stack([scores.bleu_counts.bleu(np.array([row])) for row in range(8)])
    np.testing.assert_allclose(bleu_NK, np.array(Bleu(4).compute_score(gts, res, verbose=0)[1]).T)
    np.testing.assert_allclose(scores.rouge_l_N, Rouge().compute_score(gts, res)[1])
    np.testing.assert_allclose(scores.cider_N, Cider().compute_score(gts, res)[1])
    assert scores.cider_N.std() > 0


@settings(max_examples=40, deadline=None)
@given(corpora, st.data())
def test_rows_have_the_bleu_and_rouge_of_a_corpus_of_these_rows(
    rows: list[tuple[list, Reports]], data: st.DataObject
) -> None:
    reports, references = [one for one, _ in rows], [several for _, several in rows]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    figures = text_scores(reports, references).figures(np.array(chosen))
    expected = of_library([reports[i] for i in chosen], [references[i] for i in chosen])
    for name in NAMES[:-1]:
        assert figures[name] == pytest.approx(expected[name], abs=1e-9)


def test_bleu_of_a_short_report_by_hand() -> None:
    # 4 of 4 tokens and 2 of 3 pairs (the lungs, lungs are) are in the reference of 6 tokens: penalty exp(1 - 6/4)
    scores = text_scores([report("the lungs are clear")], [[report("the lungs are well expanded clear")]])
    counts = scores.bleu_counts
    assert counts.bleu()[0] == pytest.approx(math.exp(-0.5))
    assert counts.bleu()[1] == pytest.approx(math.exp(-0.5) * math.sqrt(2 / 3))
    assert (counts.matches_NK.tolist(), counts.ngrams_NK.tolist()) == ([[4, 2, 1, 0]], [[4, 3, 2, 1]])
    assert (counts.length_N.tolist(), counts.reference_length_N.tolist()) == ([4], [6])


def test_repeated_token_matches_as_often_as_it_occurs_in_one_reference() -> None:
    once = text_scores([report("clear clear clear")], [[report("clear lungs"), report("lungs clear")]])
    assert once.figures()["bleu_1"] == pytest.approx(1 / 3)
    twice = text_scores([report("clear clear clear")], [[report("clear lungs"), report("clear clear")]])
    assert twice.figures()["bleu_1"] == pytest.approx(2 / 3)


def test_penalty_uses_the_reference_nearest_in_length_or_the_shorter_of_two() -> None:
    of_lengths = [report("a " * length) for length in (9, 5, 3)]
    counts = text_scores([report("a a a a")] * 2, [of_lengths, of_lengths[:2]]).bleu_counts
    assert counts.reference_length_N.tolist() == [3, 5]


def test_corpus_bleu_sums_counts_instead_of_averaging_reports() -> None:
    scores = text_scores([report("a"), report("x y z")], [[report("a")], [report("p q r")]])
    assert scores.figures()["bleu_1"] == pytest.approx(1 / 4)
    alone = [scores.figures(np.array([row]))["bleu_1"] for row in range(2)]
    assert np.mean(alone) == pytest.approx(1 / 2)


def test_rouge_of_a_short_report_by_hand() -> None:
    # the longest common subsequence is "lungs are clear": 3 of 4 tokens of the report, 3 of 5 of the reference
    scores = text_scores([report("lungs are now clear")], [[report("both lungs are quite clear")]])
    precision, recall, beta = 3 / 4, 3 / 5, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert scores.figures()["rouge_l"] == pytest.approx(expected)


def test_cider_of_copies_is_ten_times_their_share_of_ngram_orders() -> None:
    written = [report("a b c d"), report("e f")]
    scores = text_scores(written, [[one] for one in written])
    assert scores.cider_N == pytest.approx([10.0, 5.0])
    assert scores.figures()["cider"] == pytest.approx(7.5)


def test_cider_weights_tokens_by_their_rarity_in_the_references() -> None:
    # "common" is in both references: its weight is log(2/2) = 0. So one unigram in one is right; bigrams differ
    reports = [report("rare common"), report("other common")]
    scores = text_scores(reports, [[report("common rare")], [report("common seldom")]])
    assert scores.cider_N == pytest.approx([10 / 4, 0.0])


def test_exact_copy_has_full_bleu_and_rouge_and_sentence_ends_are_no_tokens() -> None:
    scores = text_scores([report("no effusion. lungs are clear")], [[report("no effusion lungs are clear")]])
    assert scores.bleu_counts.bleu() == pytest.approx([1.0] * 4)
    assert scores.figures()["rouge_l"] == pytest.approx(1.0)


def test_two_references_are_matched_better_than_either_alone() -> None:
    generated = [report("the heart is normal. no effusion is seen")]
    first, second = report("the heart is enlarged"), report("clear lungs. no effusion is seen")
    both = text_scores(generated, [[first, second]])
    for alone in (text_scores(generated, [[first]]), text_scores(generated, [[second]])):
        assert (both.bleu_counts.bleu()[:3] > 1.2 * alone.bleu_counts.bleu()[:3]).all()
        assert both.figures()["rouge_l"] >= alone.figures()["rouge_l"]
    # "is" is in each reference once, so only one of the two counts; "normal" is in none
    assert both.bleu_counts.matches_NK.tolist() == [[6, 5, 3, 1]]


@settings(max_examples=40, deadline=None)
@given(corpora, st.randoms(use_true_random=False))
def test_order_of_reports_and_references_does_not_matter(rows: list, random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain = text_scores([one for one, _ in rows], [several for _, several in rows])
    shuffled = text_scores([rows[i][0] for i in order], [rows[i][1][::-1] for i in order])
    assert shuffled.figures() == pytest.approx(plain.figures(), abs=1e-9)
    np.testing.assert_allclose(shuffled.cider_N, plain.cider_N[order], atol=1e-9)
    np.testing.assert_allclose(shuffled.rouge_l_N, plain.rouge_l_N[order], atol=1e-9)
    np.testing.assert_array_equal(shuffled.bleu_counts.matches_NK, plain.bleu_counts.matches_NK[order])


def test_empty_report_scores_zero_and_counts() -> None:
    written = [[report("a b c d")], [report("e f g h")]]
    nothing = text_scores([[], [[]]], written)
    assert nothing.figures() == dict.fromkeys(NAMES, 0.0)
    half = text_scores([report("a b c d"), []], written)
    assert half.rouge_l_N.tolist() == [1.0, 0.0]
    assert half.cider_N == pytest.approx([10.0, 0.0])
    assert half.bleu_counts.bleu() == pytest.approx([math.exp(1 - 8 / 4)] * 4)
    assert half.bleu_counts.bleu(np.array([1])) == pytest.approx([0] * 4, abs=1e-9)
    assert set(bootstrapped(nothing, ["s", "t"]).values()) == {(0.0, 0.0)}


def test_scoring_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bootstrapped(text_scores(*made_up(3, seed=1)), ["s", "t", "u"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("reports", "references", "message"),
    [
        ([], [], "0 reports to score"),
        ([[["a"]]], [], "1 reports have 0 reference lists"),
        ([[["a"]], [["b"]]], [[[["a"]]], []], "Report 1 has no reference"),
        ([[["a"]]], [[[["a"]], [[]]]], "Report 0 has no reference, or one without tokens"),
        ([[["a"]]], [[["a"]]], "A sentence of reference 0 of report 0 is a text"),
        ([["a"]], [[[["a"]]]], "A sentence of report 0 is a text"),
        ([[["two words"]]], [[[["a"]]]], "A token of report 0 is empty or holds white space"),
        ([[["a"]]], [[[["a"]], [["b", ""]]]], "A token of reference 1 of report 0 is empty"),
        ([[["a\u00a0b"]]], [[[["a"]]]], "holds white space"),
    ],
)
def test_unscorable_input_is_named(reports: list, references: list, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        text_scores(reports, references)
    assert "two words" not in str(error.value)


def test_intervals_match_the_library_run_on_each_resample() -> None:
    reports, references = made_up(8, seed=2)
    subjects = list("aabbbcde")
    found = bootstrapped(text_scores(reports, references), subjects, seed=5)
    lines = {i: as_strings([one]) for i, one in enumerate(reports)}
    written = {i: as_strings(several) for i, several in enumerate(references)}
    _, cider_N = Cider().compute_score(written, lines)  # document frequencies of all references
    drawn = []
    for rows in resampled_rows(subjects, 1000, seed=5):
        res, gts = {i: lines[row] for i, row in enumerate(rows)}, {i: written[row] for i, row in enumerate(rows)}
        bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
        drawn.append([*bleu, Rouge().compute_score(gts, res)[0], cider_N[rows].mean()])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    assert list(found) == NAMES
    np.testing.assert_allclose([found[name] for name in NAMES], np.stack([low, high], axis=1), atol=1e-9)


def test_interval_contains_the_score_is_narrow_and_reproducible() -> None:
    scores = text_scores(*made_up(60, seed=3))
    subjects = [str(i // 2) for i in range(60)]
    found = bootstrapped(scores, subjects, seed=1)
    assert list(found) == NAMES
    for name, value in scores.figures().items():
        low, high = found[name]
        assert low < value < high
        assert high - low < 0.8 * value
    assert found == bootstrapped(scores, subjects, seed=1)
    assert found != bootstrapped(scores, subjects, seed=2)


def test_interval_of_bleu_is_as_wide_as_the_spread_over_fresh_corpora() -> None:
    fresh = [text_scores(*made_up(20, seed)).bleu_counts.bleu()[0] for seed in range(100, 200)]
    widths = []
    for seed in range(4):
        low, high = bootstrapped(text_scores(*made_up(20, seed)), [str(i) for i in range(20)])["bleu_1"]
        widths.append(high - low)
    low, high = np.percentile(fresh, [2.5, 97.5])
    assert np.mean(widths) == pytest.approx(high - low, rel=0.3)


def test_copies_of_a_subjects_report_do_not_narrow_the_interval() -> None:
    reports, references = made_up(40, seed=4)
    copied = text_scores(reports * 4, references * 4)
    once = bootstrapped(text_scores(reports, references), [str(i) for i in range(40)])
    by_subject = bootstrapped(copied, [str(i) for i in range(40)] * 4)
    as_if_new = bootstrapped(copied, [str(i) for i in range(160)])
    for name in ("bleu_1", "bleu_4", "rouge_l"):
        width = once[name][1] - once[name][0]
        assert by_subject[name][1] - by_subject[name][0] == pytest.approx(width, rel=0.05)
        assert as_if_new[name][1] - as_if_new[name][0] < 0.7 * width


def test_distinct_ngrams_are_counted_over_all_reports_and_within_sentences() -> None:
    # pairs: no effusion, effusion seen | lungs clear | no effusion, effusion today; not "seen lungs"
    reports = [report("no effusion seen. lungs clear"), report("no effusion today")]
    assert distinct_n(reports, 1) == pytest.approx(6 / 8)
    assert distinct_n(reports, 2) == pytest.approx(4 / 5)
    assert distinct_n(reports, 3) == pytest.approx(2 / 2)
    assert distinct_n(iter(reports * 3), 2) == pytest.approx(4 / 15)


@settings(max_examples=60, deadline=None)
@given(st.lists(reports_of_any_length, min_size=1), st.integers(1, 4))
def test_distinct_ngrams_equal_a_plain_loop(reports: Reports, n: int) -> None:
    ngrams = [s[i : i + n] for one in reports for s in one for i in range(len(s)) if i + n <= len(s)]
    expected = len({tuple(ngram) for ngram in ngrams}) / len(ngrams) if ngrams else 0.0
    assert distinct_n(reports, n) == pytest.approx(expected)


def test_reports_without_ngrams_are_not_distinct_and_no_reports_are_refused() -> None:
    assert distinct_n([[], [["a"]]], 2) == 0.0
    with pytest.raises(ValueError, match="0 reports"):
        distinct_n([], 1)
    with pytest.raises(ValueError, match="n=0"):
        distinct_n([[["a"]]], 0)


def test_copies_are_whole_reports_and_sentences_of_training_reports() -> None:
    train = [report("heart normal. lungs clear"), report("no effusion"), report("heart normal. lungs clear")]
    generated = [
        report("heart normal. lungs clear"),  # a copy
        report("lungs clear. heart normal"),  # its sentences, in another order
        report("heart normal lungs clear"),  # its tokens, in one sentence
        report("heart normal. no effusion"),  # sentences of two reports
        report("lungs unclear"),  # new
        [],
        [[], *report("no effusion"), []],  # a copy
    ]
    share = verbatim_share(iter(generated), iter(train), WORDS)
    assert share == VerbatimShare(reports=pytest.approx(2 / 7), sentences=pytest.approx(7 / 9))


def test_a_copy_in_which_the_model_wrote_unk_for_rare_words_is_a_copy() -> None:
    train = [report("lungs clear. nodule near the ductus"), report("no effusion")]
    generated = [report("lungs clear. nodule near the <UNK>"), report("<UNK> effusion"), report("heart <UNK>")]
    assert verbatim_share(generated, train, {*WORDS, "nodule", "near", "the"}) == VerbatimShare(
        reports=pytest.approx(1 / 3), sentences=pytest.approx(2 / 4)
    )
    names = [report("seen by miller"), report("seen by the aide")]
    held_out = [report("seen by smith"), report("seen by an aide")]
    assert verbatim_share(held_out, names, ["seen", "by", "the", "an"]).reports == 1 / 2, "as a model would write them"


def test_tokens_are_compared_individually_and_not_as_joined_text() -> None:
    share = verbatim_share([[["a b"]], [["a", "b"]], [['a", "b']]], [[["a", "b"]]], ["a", "b", "a b", 'a", "b'])
    assert share == VerbatimShare(reports=pytest.approx(1 / 3), sentences=pytest.approx(1 / 3))


@settings(max_examples=100, deadline=None)
@given(st.lists(reports_alike, min_size=1), st.lists(reports_alike, min_size=1))
def test_copies_equal_a_plain_search_in_lists(reports: Reports, train: Reports) -> None:
    spoken_train = [[sentence for sentence in one if sentence] for one in train]
    spoken = [[sentence for sentence in one if sentence] for one in reports]
    known = [sentence for one in spoken_train for sentence in one]
    every = [sentence for one in spoken for sentence in one]
    share = verbatim_share(reports, train, ["a", "b"])
    assert share.reports == pytest.approx(sum(bool(one) and one in spoken_train for one in spoken) / len(reports))
    assert share.sentences == pytest.approx(sum(s in known for s in every) / len(every) if every else 0.0)


def test_training_reports_are_streamed_and_not_kept() -> None:
    def train() -> Iterator[list[list[str]]]:
        for i in range(3000):
            yield [[f"{i}-{k}" for k in range(20)]]

    verbatim_share([[["a"]]], [[["a"]]], ["a"])
    words = frozenset(["new", *(f"2999-{k}" for k in range(20))])
    tracemalloc.start()
    try:
        share = verbatim_share([[[f"2999-{k}" for k in range(20)]], [["new"]]], train(), words)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert share == VerbatimShare(0.5, 0.5)
    assert peak_bytes < 50_000


def test_no_reports_or_no_training_reports_are_refused() -> None:
    with pytest.raises(ValueError, match="0 reports"):
        verbatim_share([], [[["a"]]], [])
    with pytest.raises(ValueError, match="0 training reports"):
        verbatim_share([[["a"]]], iter([]), [])
    assert verbatim_share([[], [[]]], [[], [["a"]]], []) == VerbatimShare(0.0, 0.0)
