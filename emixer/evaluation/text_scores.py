"""Scores of generated reports against those of radiologists, and their variety: BLEU, ROUGE-L, CIDEr, distinct n-grams
and verbatim copies of training reports.

Scores are computed by pycocoevalcap, on this project's tokens instead of its PTB tokenizer, which needs Java. A report
is scored as one line: n-grams cross sentence ends, and the full stop is not a token. Commas are, unlike there, so
compare these figures with each other rather than with those of other tokenizers. An <UNK> matches only an <UNK>, so
beside a radiologist's words it is a miss.

Shapes: N reports, K = 4 n-gram orders.
Source: EMIXER §4.2 (BLEU-1 to 4, CIDEr); Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE-L), Vedantam et al. 2015 (CIDEr),
Li et al. 2016 (distinct-n).
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from emixer.data.vocabulary import as_model_writes
from emixer.evaluation.report_mentions import Sentence
from emixer.evaluation.resampling import ALL, Figures, Rows

Report = Sequence[Sentence]
"""Sentences of tokens. A token is not empty and contains no white space."""

MAX_ORDER = 4
"""Longest n-grams of BLEU and CIDEr."""

_TINY, _SMALL = 1e-15, 1e-9  # added by the library to numerators and denominators, so that 0 / 0 is not NaN


@dataclass(frozen=True, eq=False)
class BleuCounts:
    """Counts of corpus BLEU, int64, by report. Their sums over any reports give the BLEU of those reports."""

    matches_NK: NDArray[np.int64]
    """n-grams of the report found in its references, each clipped to its maximum count in one reference."""
    ngrams_NK: NDArray[np.int64]
    """All n-grams of the report."""
    length_N: NDArray[np.int64]
    """Tokens of the report."""
    reference_length_N: NDArray[np.int64]
    """Tokens of the reference nearest in length; the shorter of two equally near."""

    def bleu(self, rows: Rows = ALL) -> NDArray[np.float64]:
        """Corpus BLEU-1 to 4 (K,) in [0, 1] of the given rows; a row given twice counts twice."""
        precision_K = (self.matches_NK[rows].sum(0) + _TINY) / (self.ngrams_NK[rows].sum(0) + _SMALL)
        mean_K = np.cumprod(precision_K) ** (1 / np.arange(1, MAX_ORDER + 1))
        length, reference_length = self.length_N[rows].sum(), self.reference_length_N[rows].sum()
        penalty: np.float64 = np.exp(min(0.0, 1 - (reference_length + _SMALL) / (length + _TINY)))
        bleu_K: NDArray[np.float64] = mean_K * penalty
        return bleu_K


@dataclass(frozen=True, eq=False)
class TextScores:
    """Scores of each report, in the order given, from which `figures` makes those of any of them together."""

    bleu_counts: BleuCounts
    rouge_l_N: NDArray[np.float64]
    """In [0, 1]."""
    cider_N: NDArray[np.float64]
    """In [0, 10]: ten times the mean over n-gram orders, as in the library."""

    def figures(self, rows: Rows = ALL) -> Figures:
        """Corpus BLEU bleu_1 ... bleu_4, and the means rouge_l and cider, of the given rows; a row given twice counts
        twice.

        The document frequencies of CIDEr remain those of all references.
        """
        bleu_K = self.bleu_counts.bleu(rows)
        figures = {f"bleu_{order}": float(bleu) for order, bleu in enumerate(bleu_K, start=1)}
        return figures | {"rouge_l": float(self.rouge_l_N[rows].mean()), "cider": float(self.cider_N[rows].mean())}


def text_scores(reports: Sequence[Report], references: Sequence[Sequence[Report]]) -> TextScores:
    """Score reports, each with one or more references: N reports, N lists of reference reports.

    Document frequencies of CIDEr are those of all given references, so a corpus of one report has CIDEr 0. Its length
    penalty (sigma of 6 tokens) was designed for captions and is harsh on reports. An empty report scores 0 throughout.
    Raises ValueError for no reports, a report without a reference, a reference without tokens, a token that is empty or
    contains white space, and a list of tokens where sentences were expected.
    """
    if not reports:
        raise ValueError("There are 0 reports to score. Give at least 1.")
    if len(reports) != len(references):
        raise ValueError(f"{len(reports)} reports have {len(references)} reference lists. Give one list per report.")
    generated = {n: [_line(report, f"report {n}")] for n, report in enumerate(reports)}
    written = {n: _reference_lines(of_report, n) for n, of_report in enumerate(references)}
    bleu = BleuScorer(n=MAX_ORDER)
    for n, line in generated.items():
        bleu += (line[0], written[n])
    _, rouge_l_N = Rouge().compute_score(written, generated)
    _, cider_N = Cider(n=MAX_ORDER).compute_score(written, generated)
    return TextScores(_bleu_counts(bleu), rouge_l_N, cider_N)


def distinct_n(reports: Iterable[Report], n: int) -> float:
    """Distinct n-grams / all n-grams over all reports, in [0, 1]; n-grams do not cross sentence ends.

    Falls with the number of reports: compare it at equal numbers. 0 if no sentence has n tokens.
    Raises ValueError for no reports and for n < 1.
    """
    if n < 1:
        raise ValueError(f"n={n} is not a length of n-grams. Give at least 1.")
    num_reports, num_ngrams = 0, 0
    distinct: set[tuple[str, ...]] = set()
    for report in reports:
        num_reports += 1
        for sentence in report:
            ngrams = list(zip(*(sentence[start:] for start in range(n)), strict=False))
            num_ngrams += len(ngrams)
            distinct.update(ngrams)
    if not num_reports:
        raise ValueError("There are 0 reports to count n-grams of. Give at least 1.")
    return len(distinct) / num_ngrams if num_ngrams else 0.0


@dataclass(frozen=True)
class VerbatimShare:
    """Shares of verbatim copies, in [0, 1]."""

    reports: float
    """Share of reports with exactly the sentences of one training report, in the same order."""
    sentences: float
    """Share of sentences that occur in a training report, each counted as often as it was generated."""


def verbatim_share(
    reports: Iterable[Report], train_reports: Iterable[Report], vocabulary: Collection[str]
) -> VerbatimShare:
    """Share of generated reports and sentences copied from training reports, token for token.

    vocabulary: the words that the model can write. It writes <UNK> for all others, so these count as one word.
    Both sides are read once; only 16-byte digests of the generated reports and sentences are kept, so memory does not
    grow with the training set. Sentences without tokens do not count; a report without any is not a copy.
    Raises ValueError for no reports, and for no training reports.
    """
    known = frozenset(vocabulary)
    whole: Counter[bytes] = Counter()
    single: Counter[bytes] = Counter()
    num_reports = 0
    for report in reports:
        num_reports += 1
        digests = _sentence_digests(report, known)
        single.update(digests)
        if digests:
            whole[_digest(*digests)] += 1
    if not num_reports:
        raise ValueError("There are 0 reports to search for in the training reports. Give at least 1.")
    num_sentences = single.total()
    num_train, copied_reports, copied_sentences = 0, 0, 0
    for report in train_reports:
        num_train += 1
        digests = _sentence_digests(report, known)
        copied_reports += whole.pop(_digest(*digests), 0)
        copied_sentences += sum(single.pop(digest, 0) for digest in digests)
    if not num_train:
        raise ValueError("There are 0 training reports. Give at least 1; an iterator can be read only once.")
    return VerbatimShare(copied_reports / num_reports, copied_sentences / num_sentences if num_sentences else 0.0)


def _bleu_counts(scorer: BleuScorer) -> BleuCounts:
    parts = scorer.ctest
    nearest = [min(part["reflen"], key=lambda length: (abs(length - part["testlen"]), length)) for part in parts]
    return BleuCounts(
        np.array([part["correct"] for part in parts], np.int64),
        np.array([part["guess"] for part in parts], np.int64),
        np.array([part["testlen"] for part in parts], np.int64),
        np.array(nearest, np.int64),
    )


def _reference_lines(references: Sequence[Report], n: int) -> list[str]:
    lines = [_line(reference, f"reference {i} of report {n}") for i, reference in enumerate(references)]
    if not lines or not all(lines):
        raise ValueError(f"Report {n} has no reference, or one without tokens. Omit such reports and references.")
    return lines


def _line(report: Report, name: str) -> str:
    if any(isinstance(sentence, str) for sentence in report):
        raise ValueError(f"A sentence of {name} is a text; expected a list of sentences, which are lists of tokens.")
    tokens = [token for sentence in report for token in sentence]
    if any(token.split() != [token] for token in tokens):
        raise ValueError(f"A token of {name} is empty or holds white space; expected tokens as `tokenize` makes them.")
    return " ".join(tokens)


def _sentence_digests(report: Report, vocabulary: Collection[str]) -> list[bytes]:
    told = ([as_model_writes(token, vocabulary) for token in sentence] for sentence in report if sentence)
    return [_digest(json.dumps(sentence).encode()) for sentence in told]


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=16).digest()
