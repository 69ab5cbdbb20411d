"""The vocabulary: who gets in, and encoding of whole columns against a plain loop."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emixer.data.vocabulary import END, PAD, SPECIAL_TOKENS, START, UNK, Vocabulary, read_written
from emixer.errors import ShardError

SENTENCES = pa.list_(pa.list_(pa.string()))


def encode_by_loop(vocabulary: Vocabulary, reports: list, max_sentences: int, max_words: int) -> np.ndarray:
    ids = np.full((len(reports), max_sentences, max_words), PAD, np.int32)
    for n, report in enumerate(reports):
        for s, sentence in enumerate((report or [])[:max_sentences]):
            words = [vocabulary.tokens.index(t) if t in vocabulary.tokens else UNK for t in sentence[: max_words - 1]]
            ids[n, s, : len(words) + 1] = [*words, END]
    return ids


def test_tokens_below_the_minimum_stay_out_and_ties_go_by_alphabet() -> None:
    vocabulary = Vocabulary.from_counts({"b": 6, "a": 6, "rare": 5, "c": 9}, min_token_count=6)
    assert vocabulary.tokens == (*SPECIAL_TOKENS, "c", "a", "b")
    assert vocabulary.counts == (0, 0, 0, 0, 9, 6, 6)


def test_a_cut_sentence_still_ends_in_end_and_a_null_report_is_all_pad() -> None:
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "a", "b"))
    column = pa.array([None, [["a", "b", "a", "b"], ["z"]], []], SENTENCES)
    ids = vocabulary.encode_sentences(column, max_sentences=2, max_words=3)
    assert ids.tolist() == [[[0, 0, 0]] * 2, [[4, 5, END], [UNK, END, 0]], [[0, 0, 0]] * 2]
    assert ids.dtype == np.int32


@given(
    st.lists(st.none() | st.lists(st.lists(st.sampled_from("abcz"), max_size=5), max_size=4), max_size=6),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 2),
)
def test_encoding_a_column_equals_a_plain_loop(reports: list, max_sentences: int, max_words: int, skip: int) -> None:
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "a", "b", "c"))
    column = pa.chunked_array([pa.array(reports, SENTENCES), pa.array(reports, SENTENCES)]).slice(skip)
    expected = encode_by_loop(vocabulary, (reports + reports)[skip:], max_sentences, max_words)
    np.testing.assert_array_equal(vocabulary.encode_sentences(column, max_sentences, max_words), expected)


def test_decoded_reports_are_readable_and_stop_at_end() -> None:
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "lungs", "clear", "effusion", "no"))
    ids = [[[START, 4, 5, END, 6], [7, 6, END, 0, 0]], [[0] * 5, [0] * 5]]
    assert vocabulary.decode(ids) == ["Lungs clear. No effusion.", ""]


def test_sentences_without_a_token_are_left_out() -> None:
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "lungs", "clear"))
    assert vocabulary.sentences_of([[4, 5, END], [END, 4, 5], [START, 5, PAD], [PAD] * 3]) == [
        ["lungs", "clear"],
        ["clear"],
    ]
    assert vocabulary.sentences_of(np.zeros((2, 3), np.int32)) == []


def test_a_written_report_is_read_back_as_its_tokens_unknown_ones_too() -> None:
    vocabulary = Vocabulary((*SPECIAL_TOKENS, "seen", "by", "dr.", ",", "(", ")", "?"))
    ids = [[4, 5, 6, UNK, END], [UNK, 7, UNK, 8, UNK, 9, END], [10, UNK, END], [UNK, END]]
    padded = [sentence + [PAD] * (7 - len(sentence)) for sentence in ids]
    (text,) = vocabulary.decode([padded])
    assert text == "Seen by dr. <UNK>. <UNK>, <UNK> (<UNK>). ? <UNK>. <UNK>."
    assert read_written(text) == vocabulary.sentences_of(padded)
    assert read_written("") == []


def test_a_saved_vocabulary_comes_back_equal(tmp_path: Path) -> None:
    vocabulary = Vocabulary.from_counts({"caf\u00e9": 7, "a": 8}, min_token_count=2)
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"version": 1}', '{"version": 1, "tokens": [], "counts": [], "min_token_count": 1}']
)
def test_a_damaged_vocabulary_is_one_clear_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(ShardError, match="damaged"):
        Vocabulary.load(path)


def test_a_vocabulary_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text('{"version": 99}')
    with pytest.raises(ShardError, match="version 99"):
        Vocabulary.load(tmp_path / "vocabulary.json")


def test_a_missing_vocabulary_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no vocabulary .*vocabulary\.json"):
        Vocabulary.load(tmp_path / "vocabulary.json")
