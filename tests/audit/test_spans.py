"""What reports repeat of training reports: word sequences of a single patient, not stock sentences."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from emixer.audit.reports import find_copied_reports
from emixer.audit.spans import SequenceIndex, Shared, as_sentences, read_reports
from emixer.audit.traces import traces
from emixer.data.text import tokenize
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary

STOCK = ["the", "lungs", "are", "clear", "of", "consolidation"]
OWN = ["a", "calcified", "granuloma", "of", "4", "mm", "in", "the", "right", "upper", "lobe", "is", "unchanged"]


@pytest.fixture(scope="module")
def index() -> SequenceIndex:
    """Patient 0 with the stock sentence and one of her own, patients 1 and 2 with the stock sentence alone."""
    parts = [as_sentences([[STOCK, OWN], [STOCK]]), as_sentences([None, [STOCK]])]
    return SequenceIndex.of([(parts[0], np.array([0, 1])), (parts[1], np.array([1, 2]))], 4, {*STOCK, *OWN})


def test_stock_sentences_point_to_nobody(index: SequenceIndex) -> None:
    found = index.look_up(as_sentences([[STOCK]]))
    assert found.shared_N.tolist() == [1.0]
    assert (found.identifying_N[0], found.longest_N[0]) == (0, 0)


def test_a_patients_own_words_point_to_her(index: SequenceIndex) -> None:
    found = index.look_up(as_sentences([[["new"], OWN], [["no", "other", "word"]], None]))
    assert found.identifying_N.tolist() == [len(OWN) - 3, 0, 0]
    assert found.longest_N.tolist() == [len(OWN), 0, 0]


def test_a_changed_word_leaves_the_sequences_around_it(index: SequenceIndex) -> None:
    changed = [*OWN[:6], "the", *OWN[7:]]
    found = index.look_up(as_sentences([[changed]]))
    assert found.identifying_N[0] == 3 + 3, "of 13 words, sequences of four before and behind the seventh"
    assert found.longest_N[0] == 6


@pytest.mark.parametrize("owners", [(0, 1), (1, 0)])
def test_of_several_patients_the_one_with_the_most_sequences_counts(owners: tuple[int, int]) -> None:
    index = SequenceIndex.of([(as_sentences([[OWN], [STOCK]]), np.array(owners))], 4, {*STOCK, *OWN})
    found = index.look_up(as_sentences([[OWN, STOCK]]))
    assert found.identifying_N.tolist() == [len(OWN) - 3]


def test_a_sequence_may_span_sentences_but_not_reports(index: SequenceIndex) -> None:
    found = index.look_up(as_sentences([[STOCK[-2:], OWN[:2]], [OWN[:2]], [OWN[2:4]]]))
    assert found.identifying_N.tolist() == [1, 0, 0]


RARE = tokenize("Dr. Quux saw ? pneumoblastoma near the hilum. Grade 3/5 opacity (left).")


@pytest.mark.parametrize("unknown", [set(), {"quux"}, {"quux", "pneumoblastoma", "5", "grade"}])
def test_a_copy_in_which_the_model_writes_unk_shares_as_much_as_one_with_every_word(unknown: set[str]) -> None:
    words = dict.fromkeys(word for sentence in RARE for word in sentence if word not in unknown)
    vocabulary = Vocabulary((*SPECIAL_TOKENS, *words, *(word for word in STOCK if word not in words)))
    training = as_sentences([RARE, [STOCK]])
    index = SequenceIndex.of([(training, np.array([0, 1]))], 4, vocabulary.tokens)
    (copy,) = vocabulary.decode(vocabulary.encode_sentences(training.slice(0, 1), 2, 12))
    assert ("<UNK>" in copy) == bool(unknown)
    found = index.look_up(read_reports([copy, None, "Grade <UNK> opacity near the left."]))
    assert found.identifying_N.tolist() == [8 + 8 - 3, 0, 0], "sixteen words have thirteen sequences of four"
    assert found.shared_N.tolist() == [1, 0, 0]


def test_unknown_words_are_one_word_which_several_patients_use() -> None:
    training = as_sentences([[["seen", "by", "smith", "again"]], [["seen", "by", "miller", "again"]]])
    told = SequenceIndex.of([(training, np.array([0, 1]))], 4, ("seen", "by", "smith", "again"))
    assert told.look_up(training).identifying_N.tolist() == [1, 1], "one of them is in the vocabulary"
    untold = SequenceIndex.of([(training, np.array([0, 1]))], 4, ("seen", "by", "again"))
    assert untold.look_up(training).identifying_N.tolist() == [0, 0]


def test_index_is_gathered_in_little_more_than_twice_what_it_takes() -> None:
    generator = np.random.default_rng(0)
    words = [f"word{n}" for n in range(500)]
    parts = [
        as_sentences([[[str(word) for word in generator.choice(words, 50)]] for _ in range(100)]) for _ in "x" * 40
    ]
    tracemalloc.start()
    try:
        index = SequenceIndex.of(((part, np.arange(100)) for part in parts), 8, words)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index.hash_L) == 40 * 100 * (50 - 8 + 1), "all differ"
    assert most < 45 * 40 * 100 * 50, "bytes"


def test_without_training_reports_nothing_is_shared() -> None:
    empty = SequenceIndex.of([], 4, OWN)
    assert empty.look_up(as_sentences([[OWN]])).shared_N.tolist() == [0]


def test_reports_are_flagged_by_what_held_out_reports_do() -> None:
    def shared(counts: list[int]) -> Shared:
        counted = np.array(counts)
        return Shared(counted / 10, counted, counted)

    held_out = shared([0] * 90 + [1, 1, 1, 2, 2, 2, 3, 3, 4])
    found = find_copied_reports(shared([0, 4, 5, 30]), held_out, level=0.02)
    assert found.flagged.tolist() == [False, True, True, True], (
        "one of 99 held-out reports has 4, so 4 has rank 2 of 100"
    )
    assert found.copies.tolist() == [False, False, False, True]
    assert found.threshold == 4
    found = find_copied_reports(shared([10, 51]), shared([0] * 97 + [1, 1, 50]), level=0.02)
    assert found.flagged.tolist() == [True, True]
    assert found.copies.tolist() == [False, True], "a held-out report has 50"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("discussed with dr. miller by phone.", {"names"}),
        ("findings were told to dr. ___ at once.", {"masks"}),
        ("compared with XXXX.", {"masks"}),
        ("since 3/14/2019 the effusion has grown.", {"dates"}),
        ("chest film of 2019-03-14.", {"dates"}),
        ("unchanged since march 2015.", {"dates"}),
        ("study of march 4, again.", {"dates"}),
        ("accession 12345678.", {"numbers"}),
        ("the heart is normal, a 2.5 cm nodule at 5:12, t12 and c5-6.", set()),
        ("patient may march on. mr imaging is advised.", set()),
        ("", set()),
    ],
)  # fmt: skip
def test_names_dates_numbers_and_masks_are_told(text: str, kinds: set[str]) -> None:
    found = traces(pa.array([text, None]))
    assert {kind for kind, is_so in found.items() if is_so[0]} == kinds
    assert not any(is_so[1] for is_so in found.values())
