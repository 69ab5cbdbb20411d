"""The vocabulary of the reports: tokens <-> ids, whole batches at a time.

A sentence of the model is its tokens, then END, then PAD. The full stop is not a token: END stands for it.

Shapes: N reports, S sentences a report, W words a sentence (END included).
Source: EMIXER §6.3.1 (tokens that occur at least six times).
"""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from emixer.data.text import detokenize, tokenize
from emixer.errors import ShardError
from emixer.files import write_json

PAD, START, END, UNK = range(4)
SPECIAL_TOKENS = ("<PAD>", "<START>", "<END>", "<UNK>")
VOCABULARY_VERSION = 1
_STAND_IN = "outofvocabulary"
"""A word that no vocabulary has, in place of <UNK>, which would be three tokens."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, the four special ones first, then by falling count, ties by alphabet.

    counts: occurrences in the train reports, in the order of `tokens` (0 for the special ones); may be empty.
    min_token_count: what a token needed to get in.
    """

    tokens: tuple[str, ...]
    counts: tuple[int, ...] = ()
    min_token_count: int = 1
    _values: pa.Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            raise ValueError(f"A vocabulary begins with {', '.join(SPECIAL_TOKENS)}; this one with {self.tokens[:4]}.")
        if len(set(self.tokens)) != len(self.tokens):
            raise ValueError("The vocabulary has a duplicate token.")
        object.__setattr__(self, "_values", pa.array(self.tokens, pa.string()))

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], min_token_count: int) -> Self:
        """Keeps the tokens that occur at least `min_token_count` times."""
        kept = sorted(((-count, token) for token, count in counts.items() if count >= min_token_count))
        tokens = SPECIAL_TOKENS + tuple(token for _, token in kept)
        return cls(tokens, (0,) * len(SPECIAL_TOKENS) + tuple(-count for count, _ in kept), min_token_count)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode_sentences(
        self, sentences: pa.Array | pa.ChunkedArray, max_sentences: int, max_words: int
    ) -> NDArray[np.int32]:
        """Ids of a `sentences` column (list<list<string>>), int32 (N, max_sentences, max_words).

        Every sentence ends in END, also one that is cut; what does not fit is left out; a null report is all PAD.
        """
        reports = sentences.combine_chunks() if isinstance(sentences, pa.ChunkedArray) else sentences
        ids_NSW = np.full((len(reports), max_sentences, max_words), PAD, np.int32)
        inner = reports.flatten()
        words_per_sentence = _lengths(inner)
        report_of, sentence_in_report = _positions(_lengths(reports))
        sentence_of, word_in_sentence = _positions(words_per_sentence)

        ids = pc.fill_null(pc.index_in(inner.flatten(), value_set=self._values), UNK).to_numpy(zero_copy_only=False)
        fits = (word_in_sentence < max_words - 1) & (sentence_in_report[sentence_of] < max_sentences)
        sentence_of = sentence_of[fits]
        ids_NSW[report_of[sentence_of], sentence_in_report[sentence_of], word_in_sentence[fits]] = ids[fits]

        kept = sentence_in_report < max_sentences
        ends = np.minimum(words_per_sentence, max_words - 1)
        ids_NSW[report_of[kept], sentence_in_report[kept], ends[kept]] = END
        return ids_NSW

    def decode(self, ids_NSW: ArrayLike) -> list[str]:
        """Readable reports: sentence case, punctuation in place. A report of PAD alone is an empty text."""
        return [detokenize([self._tokens(ids) for ids in report]) for report in np.asarray(ids_NSW).tolist()]

    def sentences_of(self, ids_SW: ArrayLike) -> list[list[str]]:
        """Sentences of one report as tokens; those without a token are left out."""
        return [tokens for ids in np.asarray(ids_SW).tolist() if (tokens := self._tokens(ids))]

    def _tokens(self, ids: list[int]) -> list[str]:
        """Tokens of one sentence up to END or PAD; START is skipped."""
        return [self.tokens[i] for i in takewhile(lambda i: i not in (END, PAD), ids) if i != START]

    def save(self, path: Path) -> None:
        """Writes JSON atomically."""
        content: dict[str, Any] = {"version": VOCABULARY_VERSION, "min_token_count": self.min_token_count}
        write_json(path, content | {"tokens": list(self.tokens), "counts": list(self.counts)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote. Raises ShardError when the file is missing, damaged or of another version."""
        remedy = "Run the same `emixer ingest` command again; finished shards are kept."
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != VOCABULARY_VERSION:
                raise ShardError(
                    f"{path} is a vocabulary of version {content['version']}, this emixer reads version "
                    f"{VOCABULARY_VERSION}. Run `emixer ingest` again into a new folder."
                )
            return cls(tuple(content["tokens"]), tuple(content["counts"]), content["min_token_count"])
        except FileNotFoundError as error:
            raise ShardError(f"There is no vocabulary {path}. {remedy}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ShardError(f"{path} is not a vocabulary file ({type(error).__name__}): damaged. {remedy}") from error


def read_written(text: str) -> list[list[str]]:
    """Sentences of tokens of a report that a model wrote, as `tokenize` finds them; <UNK> is one token."""
    sentences = tokenize(text.replace(SPECIAL_TOKENS[UNK], _STAND_IN))
    return [[SPECIAL_TOKENS[UNK] if token == _STAND_IN else token for token in tokens] for tokens in sentences]


def as_model_writes(token: str, vocabulary: Container[str]) -> str:
    """The token, or <UNK> if the vocabulary lacks it: copies are looked for among what a model can write."""
    return token if token in vocabulary else SPECIAL_TOKENS[UNK]


def _lengths(lists: pa.ListArray) -> NDArray[np.int64]:
    """Items of each list; 0 for null."""
    lengths: NDArray[np.int64] = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64, copy=False)


def _positions(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each item of a flattened list column: which list it came from, and its position there."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - starts[owner]
