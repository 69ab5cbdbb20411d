"""A small rule-based labeler of reports: each label is present, negated, uncertain or unmentioned.

A sentence is searched for the terms of each label; a term is negated or made uncertain by trigger words before or
after it within its clause (the idea of NegEx, Chapman et al. 2001). Normal statements ("the heart is normal in size")
and the removal of a device also negate. History counts as unmentioned. Over a report, present takes precedence over
uncertain, and uncertain over negated (as in the CheXpert labeler, Irvin et al. 2019).

The labeler is small, so it misses rare wordings: compare its results on generated reports with those on real ones. Its
terms are in `radiology_terms`. It supports only English. ConText of medspacy and NegEx of negspacy were tried instead
and did less well on the Indiana reports (docs/experiments.md).

Shapes: N reports, Y labels.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from emixer.data.schema import ENGLISH
from emixer.errors import ConfigError
from emixer.evaluation import radiology_terms as terms

LABELER_VERSION = 3
"""Changes whenever reports are read differently: results that depend on it are not mixed."""
Sentence = Sequence[str]
"""Lower-case tokens, without the full stop."""


class Mention(IntEnum):
    """How a report mentions one label. The first three are the values of labels in shards.

    Scores of reports count only PRESENT as stated and only NEGATED as denied. UNCERTAIN is neither, so that a hedge
    gains nothing and costs only recall.
    """

    PRESENT = 1
    NEGATED = 0
    UNCERTAIN = -1
    UNMENTIONED = -2


READABLE_LABELS = frozenset(terms.TERMS) | {terms.NO_FINDING}
"""Labels that the labeler supports: the 14 of CheXpert and the 14 of NIH ChestX-ray14."""

_STRENGTH = (Mention.UNMENTIONED, Mention.NEGATED, Mention.UNCERTAIN, Mention.PRESENT)
_DEVICES = "Support Devices"

_TERMS = {label: terms.whole_words(lines) for label, lines in terms.TERMS.items()}
_NORMAL = {label: terms.whole_words(lines) for label, lines in terms.NORMAL_STATEMENTS.items()}
_BORDERLINE = {label: terms.whole_words(lines) for label, lines in terms.BORDERLINE_STATEMENTS.items()}
_ENDS_BEFORE = terms.whole_words(terms.CLAUSE_END_BEFORE_TERM)
_NEGATION_ENDS = terms.whole_words(terms.NEGATION_END_BEFORE_TERM)
_ENDS_AFTER = terms.whole_words(terms.CLAUSE_END_AFTER_TERM)
_ONE_SIDE = re.compile(terms.ONE_SIDE.strip())
_NO_CHANGE = terms.whole_words(terms.NO_CHANGE)
_HISTORY = terms.whole_words(terms.HISTORY)
_CONFIRMED_HISTORY = terms.whole_words(terms.CONFIRMED_HISTORY)
_STILL_THERE = terms.whole_words(terms.STILL_THERE)
_LEFT_OPEN = terms.whole_words(terms.LEFT_OPEN)
_DEVICE_GONE_BEFORE = terms.whole_words(terms.DEVICE_GONE_BEFORE)
_DEVICE_PLACED = terms.whole_words(terms.DEVICE_PLACED)
_DEVICE_GONE_AFTER = terms.whole_words(terms.DEVICE_GONE_AFTER)
_DEVICE_PART_UNSEEN = terms.whole_words(terms.DEVICE_PART_UNSEEN)
_DEVICE_STAYS = terms.whole_words(terms.DEVICE_STAYS)
_UNDECIDED = terms.whole_words(terms.UNDECIDED)
_NEGATED_BEFORE = terms.whole_words(terms.NEGATION_BEFORE_TERM)
_DOUBT_BEFORE = terms.whole_words(terms.DOUBT_BEFORE_TERM)
_VERBS_AND_ENDS = r"(?:is|are|was|were|has|have|with|but|and|,)"
# a trigger after the term applies only if no other statement lies between
_NEGATED_AFTER = re.compile(
    rf"^(?: (?!(?:is|are|was|were|has|have|had|with|but) )\S+)*? {terms.alternatives(terms.NEGATION_AFTER_TERM)} "
)
_DOUBT_AFTER = re.compile(
    rf"^(?: (?!{_VERBS_AND_ENDS} )\S+){{0,4}}? {terms.alternatives(terms.DOUBT_AFTER_TERM)} "
    rf"|^(?: (?!(?:{_VERBS_AND_ENDS}|may|might|represents?|reflects?) )\S+){{0,8}}? "
    rf"{terms.alternatives(terms.NOT_EXCLUDED_AFTER_TERM)} "
)
_ANSWERED_NO = re.compile(rf"^ {terms.alternatives(terms.ANSWERED_NO)} ")
_VERB = re.compile(r" (?:is|are|was|were|appears?|remains?) ")


def mentions(
    reports: Iterable[Sequence[Sentence]], label_names: Sequence[str], language: str = ENGLISH
) -> NDArray[np.int8]:
    """Label reports given as sentences of lower-case tokens. Returns `Mention` values, int8 (N, Y).

    language: of the reports, as in ISO 639-1. Raises ConfigError for any but English: under English rules, reports in
    another language would appear to mention nothing and to have no finding.

    Labels outside READABLE_LABELS are UNMENTIONED throughout. "No Finding" is PRESENT when the report is not empty and
    nothing but a support device is present or uncertain, else NEGATED.
    """
    if not reads_language(language):
        raise ConfigError(
            f"Reports in the language {language!r} cannot be labelled: the labeler supports only English "
            f"({ENGLISH!r}). Omit report figures, or give reports in English."
        )
    seen: dict[str, dict[str, Mention]] = {}
    rows = [_read_report(report, label_names, seen) for report in reports]
    return np.array(rows, np.int8).reshape(len(rows), len(label_names))


def reads_language(language: str) -> bool:
    """Whether reports in a language can be labelled; regional forms (en-GB) count."""
    return language.lower().replace("_", "-").partition("-")[0] == ENGLISH


def read_sentence(tokens: Sentence) -> dict[str, Mention]:
    """Labels mentioned in one sentence."""
    sentence = _ONE_SIDE.sub(r"\g<side>", f" {' '.join(tokens)} ")
    found: dict[str, Mention] = {}
    for label, reader in _TERMS.items():
        for match in reader.finditer(sentence):
            mention = _judge(sentence, match)
            if label == _DEVICES:
                if mention is Mention.PRESENT and _device_is_gone(sentence, match):
                    mention = Mention.NEGATED
                elif mention is Mention.NEGATED and _DEVICE_PART_UNSEEN.search(sentence):
                    mention = Mention.PRESENT
            if mention is not Mention.UNMENTIONED:
                _note(found, label, mention)
    for label, reader in _NORMAL.items():
        if label not in found and reader.search(sentence):
            found[label] = Mention.NEGATED
    for label, reader in _BORDERLINE.items():
        if reader.search(sentence):
            found[label] = Mention.UNCERTAIN
    return found


@dataclass(frozen=True)
class MentionScores:
    """Scores of the labels that reports state against those they should state. Arrays (Y,), NaN where undefined."""

    precision_Y: NDArray[np.float64]
    recall_Y: NDArray[np.float64]
    f1_Y: NDArray[np.float64]
    chance_f1_Y: NDArray[np.float64]
    """Expected F1 of equally many statements in reports drawn at random."""


def score_mentions(found_NY: NDArray[np.int8], wanted_NY: NDArray[np.generic]) -> MentionScores:
    """Score PRESENT against wanted == 1. A label never wanted is NaN; one never stated has precision 0."""
    stated, wanted = found_NY == Mention.PRESENT, wanted_NY == 1
    right = (stated & wanted).sum(0).astype(np.float64)
    num_stated, num_wanted = stated.sum(0), wanted.sum(0)

    def ratio(share: NDArray[np.float64], of: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.where(num_wanted > 0, share / np.maximum(of, 1), np.nan)

    both = num_stated + num_wanted
    by_chance = 2 * num_stated * num_wanted / max(1, len(stated))
    return MentionScores(
        ratio(right, num_stated), ratio(right, num_wanted), ratio(2 * right, both), ratio(by_chance, both)
    )


def _read_report(
    report: Sequence[Sentence], label_names: Sequence[str], seen: dict[str, dict[str, Mention]]
) -> list[Mention]:
    found: dict[str, Mention] = {}
    for tokens in report:
        key = " ".join(tokens)
        if key not in seen:  # sentences repeat: each distinct one is read once
            seen[key] = read_sentence(tokens)
        for label, mention in seen[key].items():
            _note(found, label, mention)
    if any(len(tokens) for tokens in report):
        suspect = any(found[label] in (Mention.PRESENT, Mention.UNCERTAIN) for label in found.keys() - {_DEVICES})
        found[terms.NO_FINDING] = Mention.NEGATED if suspect else Mention.PRESENT
    return [found.get(label, Mention.UNMENTIONED) for label in label_names]


def _note(found: dict[str, Mention], label: str, mention: Mention) -> None:
    found[label] = max(found.get(label, Mention.UNMENTIONED), mention, key=_STRENGTH.index)


def _judge(sentence: str, match: re.Match[str]) -> Mention:
    before, after = _clause_around(sentence, match)
    before = _without(_CONFIRMED_HISTORY, before)
    denied = Mention.UNCERTAIN if _LEFT_OPEN.search(sentence, match.end()) else Mention.NEGATED
    if told := list(_HISTORY.finditer(before)):
        return denied if _NEGATED_BEFORE.search(before[told[-1].end() :]) else Mention.UNMENTIONED
    if _UNDECIDED.search(before):
        return Mention.UNCERTAIN
    statement = sentence[_last_end(_NEGATION_ENDS, sentence, match.start()) : match.start()]
    if _NEGATED_BEFORE.search(_without(_NO_CHANGE, min(before, statement, key=len))):
        return denied
    if _DOUBT_BEFORE.search(before) or _DOUBT_AFTER.search(after):
        return Mention.UNCERTAIN
    if _ANSWERED_NO.search(after):
        return Mention.NEGATED
    if not _VERB.search(match.group()) and _NEGATED_AFTER.search(_without(_STILL_THERE, after)):
        return denied
    return Mention.PRESENT


def _device_is_gone(sentence: str, match: re.Match[str]) -> bool:
    before, after = _clause_around(sentence, match)
    before, after = (_without(_DEVICE_STAYS, part) for part in (before, after))
    if placed := list(_DEVICE_PLACED.finditer(before)):
        before = before[placed[-1].end() :]
    return bool(_DEVICE_GONE_BEFORE.search(before) or _DEVICE_GONE_AFTER.search(after))


def _without(pattern: re.Pattern[str], text: str) -> str:
    return f" {' '.join(pattern.sub('', text).split())} "


def _last_end(ends: re.Pattern[str], sentence: str, stop: int) -> int:
    """Where the last match that ends by `stop` ends; what follows `stop` may decide what is a match."""
    return max((end.end() for end in ends.finditer(sentence) if end.end() <= stop), default=0)


def _clause_around(sentence: str, match: re.Match[str]) -> tuple[str, str]:
    """Text before and after a term in its clause, with a space at both ends."""
    before = sentence[_last_end(_ENDS_BEFORE, sentence, match.start()) : match.start()]
    after = sentence[match.end() :]
    if end := _ENDS_AFTER.search(after):
        after = after[: end.start()]
    return before, after
