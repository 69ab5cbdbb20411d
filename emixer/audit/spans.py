"""Word sequences that occur in the training reports of only one patient.

Radiologists repeat themselves: wording shared by several patients' reports identifies no one. So only sequences of n
words count that occur in the training reports of a single patient, and a report is suspicious if many of them point to
the same patient. Changing two words of a copied report breaks a dozen sequences and leaves the others. Held-out reports
show how many such coincidences are normal.

Words outside the vocabulary all count as one, <UNK>. Datasets hold another word in its place, since readers should
see none: a sequence across a rare word is not found, and the others of the report are.

Shapes: N reports, W words of all of them, L sequences.
Source: ours; k-eidetic memorization with k = 1 (Carlini et al. 2021), with patients for documents.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emixer.data.vocabulary import as_model_writes, read_written

_BASE = np.uint64(0x9E3779B97F4A7C15)
_SEVERAL = -1
SENTENCES = pa.list_(pa.list_(pa.string()))
Array = NDArray[Any]


@dataclass(frozen=True)
class Sequences:
    """All sequences of n words in a set of reports, as hashes."""

    hash_L: NDArray[np.uint64]
    report_L: NDArray[np.int64]

    @classmethod
    def of(cls, sentences: pa.Array, num_words: int, vocabulary: Collection[str]) -> "Sequences":
        """Hash all sequences. sentences: SENTENCES; a sequence may span sentences. Null and short reports have none."""
        word_W, ends_N = _words(sentences, vocabulary)
        hash_W = np.zeros(max(0, len(word_W) - num_words + 1), np.uint64)
        for place in range(num_words):
            hash_W = hash_W * _BASE + word_W[place : place + len(hash_W)]
        report_W = np.repeat(np.arange(len(ends_N)), np.diff(ends_N, prepend=0))
        whole = report_W[: len(hash_W)] == report_W[num_words - 1 :]
        return cls(hash_W[whole], report_W[: len(hash_W)][whole])


@dataclass(frozen=True)
class SequenceIndex:
    """Sequences of the training reports, with their patient if they occur in only one patient's reports."""

    hash_L: NDArray[np.uint64]
    """Distinct hashes, ascending."""
    owner_L: NDArray[np.int64]
    """Patient of each sequence; -1 for several."""
    num_words: int
    vocabulary: frozenset[str]
    """Words that are told apart."""

    @classmethod
    def of(cls, parts: Iterable[tuple[pa.Array, Array]], num_words: int, vocabulary: Iterable[str]) -> "SequenceIndex":
        """Build the index. parts: reports with the patient number of each, e.g. file by file. vocabulary: the words
        that the model can write."""
        known = frozenset(vocabulary)
        hashes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for sentences, owner_N in parts:
            found = Sequences.of(sentences, num_words, known)
            hashes.append(found.hash_L)
            owners.append(owner_N[found.report_L])
        # tens of millions of sequences: what is no longer needed is released at once
        hash_L = np.concatenate(hashes)
        hashes.clear()
        owner_L = np.concatenate(owners)
        owners.clear()
        order = hash_L.argsort()
        hash_L = hash_L[order]
        owner_L = owner_L[order]
        del order
        if not len(hash_L):
            return cls(hash_L, owner_L, num_words, known)
        begins = np.ones(len(hash_L), bool)
        begins[1:] = hash_L[1:] != hash_L[:-1]
        other = ~begins
        other[1:] &= owner_L[1:] != owner_L[:-1]
        first = np.flatnonzero(begins)
        hash_L = hash_L[first]
        owner_L = owner_L[first]
        owner_L[np.logical_or.reduceat(other, first)] = _SEVERAL
        return cls(hash_L, owner_L, num_words, known)

    def look_up(self, sentences: pa.Array) -> "Shared":
        """Find what these reports share with the training reports."""
        found = Sequences.of(sentences, self.num_words, self.vocabulary)
        num = len(sentences)
        if not len(self.hash_L):
            return Shared(np.zeros(num), np.zeros(num, np.int64), np.zeros(num, np.int64))
        place_L = np.searchsorted(self.hash_L, found.hash_L).clip(max=len(self.hash_L) - 1)
        known_L = self.hash_L[place_L] == found.hash_L
        owner_L = np.where(known_L, self.owner_L[place_L], _SEVERAL)
        all_N = np.bincount(found.report_L, minlength=num)
        shared_N = np.bincount(found.report_L, known_L, num) / np.maximum(all_N, 1)
        identifying_N = _most_of_one(found.report_L, owner_L, num)
        return Shared(shared_N, identifying_N, self._longest(found.report_L, owner_L, num))

    def _longest(self, report_L: Array, owner_L: Array, num: int) -> NDArray[np.int64]:
        """Number of words in each report's longest span that points to one patient."""
        begins = np.ones(len(owner_L), bool)
        begins[1:] = (report_L[1:] != report_L[:-1]) | (owner_L[1:] != owner_L[:-1])
        first = np.flatnonzero(begins)
        length = np.diff(first, append=len(owner_L))
        counted = owner_L[first] != _SEVERAL
        longest_N = np.zeros(num, np.int64)
        np.maximum.at(longest_N, report_L[first[counted]], length[counted] + self.num_words - 1)
        return longest_N


@dataclass(frozen=True)
class Shared:
    """What reports share with training reports."""

    shared_N: NDArray[np.float64]
    """Share of their sequences that occur in any training report."""
    identifying_N: NDArray[np.int64]
    """Largest number of sequences that occur only in the reports of one and the same patient."""
    longest_N: NDArray[np.int64]
    """Words of the longest span that points to a single patient; 0 for none."""

    def take(self, rows: Array) -> "Shared":
        """Select reports by row."""
        return Shared(self.shared_N[rows], self.identifying_N[rows], self.longest_N[rows])


def read_reports(texts: Iterable[str | None]) -> pa.Array:
    """Generated reports as SENTENCES."""
    return as_sentences([read_written(text or "") for text in texts])


def as_sentences(reports: Sequence[Sequence[Sequence[str]] | None]) -> pa.Array:
    """Tokenized reports as an Arrow array."""
    return pa.array(reports, SENTENCES)


def _most_of_one(report_L: Array, owner_L: Array, num: int) -> NDArray[np.int64]:
    """Highest number of sequences of each report that point to one patient."""
    counted = owner_L != _SEVERAL
    most_N = np.zeros(num, np.int64)
    if not counted.any():
        return most_N
    width = int(owner_L.max()) + 1
    pair, count = np.unique(report_L[counted] * width + owner_L[counted], return_counts=True)
    np.maximum.at(most_N, pair // width, count)
    return most_N


def _words(sentences: pa.Array, vocabulary: Collection[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash of every word, the same for all outside the vocabulary, and the number of words up to the end of each
    report."""
    inner = sentences.flatten()
    words = inner.flatten().dictionary_encode()
    told = [as_model_writes(word, vocabulary) for word in words.dictionary.to_pylist()]
    hashes = [int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big") for word in told]
    word_W = np.array(hashes, np.uint64)[words.indices.to_numpy()] if len(words) else np.empty(0, np.uint64)
    words_of_sentence = np.concatenate([[0], pc.list_value_length(inner).fill_null(0).to_numpy().cumsum()])
    sentences_of_report = pc.list_value_length(sentences).fill_null(0).to_numpy().cumsum()
    return word_W, words_of_sentence[sentences_of_report].astype(np.int64)
