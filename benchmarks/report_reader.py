"""The rule-based report reader against gold labels of the Indiana reports (Open-i), label by label.

    python benchmarks/report_reader.py --root DIR [--resamples 1000] [--by medspacy | negspacy]
    python benchmarks/report_reader.py --chexpert FILE [--by ...]
    python benchmarks/report_reader.py --cases FILE [--by ...]

DIR is the collection as `emixer ingest open-i` takes it, with a label table that has gold_* columns. The reader sees
findings and impression. A label counts as stated when it is present, with `--uncertain` also when it is uncertain.
Intervals are 95 % bootstrap intervals over reports; negative precision is the share of what reports deny that is
absent in gold. FILE is a table as the CheXpert labeler writes it: a column `Reports` and the 14 observations as 1, 0,
-1 or blank; printed is where the reader says something else. With `--cases`, a table `sentence,label,right`.
Prints Markdown tables; no report text of a collection, no ids.

`--by` leaves the terms of labels and normal statements as they are and lets a library say of each term whether it is
present: ConText of medspacy (Eyre et al. 2021) or NegEx of negspacy, with the rules they come with. They are no
dependency of the project: `pip install medspacy negspacy` (which need numpy 1) in an environment of its own.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emixer.config.ingest import OpenISource
from emixer.data.labels import CHEXPERT, NIH14
from emixer.data.sections import split_sections
from emixer.data.sources.open_i import read_open_i
from emixer.data.text import clean_text, tokenize
from emixer.evaluation import radiology_terms as terms
from emixer.evaluation import report_mentions
from emixer.evaluation.report_mentions import Mention, Sentence, mentions, score_mentions

_READ = ("findings", "impression")
_Report = list[list[str]]
_Reader = Callable[[Iterable[_Report], Sequence[str]], NDArray[np.int8]]
_Span = tuple[int, int]


def main() -> None:
    """Reads every report that has gold labels once and prints precision, recall and F1 of each label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--root", type=Path)
    source.add_argument("--chexpert", type=Path)
    source.add_argument("--cases", type=Path)
    parser.add_argument("--by", choices=["rules", "medspacy", "negspacy"], default="rules")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--uncertain", action="store_true")
    args = parser.parse_args()
    reader = {"rules": lambda: mentions, "medspacy": _by_medspacy, "negspacy": _by_negspacy}[args.by]()
    if args.chexpert:
        print(against_chexpert(args.chexpert, reader))
    elif args.cases:
        print(against_cases(args.cases, reader))
    else:
        print(against_gold(*read(args.root, reader), resamples=args.resamples, uncertain=args.uncertain))


def against_gold(found_NY: NDArray[np.int8], gold_NY: NDArray[np.int8], resamples: int, uncertain: bool) -> str:
    """A row a label, and means: macro over labels, micro over statements."""
    denied_NY = found_NY == Mention.NEGATED
    if uncertain:
        found_NY = np.where(found_NY == Mention.UNCERTAIN, Mention.PRESENT, found_NY).astype(np.int8)
    scores = score_mentions(found_NY, gold_NY)
    low_Y, high_Y = intervals(found_NY, gold_NY, resamples)
    stated_Y, gold_Y = (found_NY == Mention.PRESENT).sum(0), (gold_NY == 1).sum(0)
    lines = [
        f"{len(gold_NY):,} reports\n",
        "| label | gold | stated | precision | recall | F1 | 95 % | denied | negative precision |",
        f"|{' --- |' * 9}",
    ]
    for y, label in enumerate(NIH14):
        figures = [scores.precision_Y[y], scores.recall_Y[y], scores.f1_Y[y]]
        cells = [f"{value:.3f}" for value in figures] + [f"{low_Y[y]:.2f} to {high_Y[y]:.2f}"]
        denials = f"{denied_NY[:, y].sum()} | {_share(denied_NY[:, y], gold_NY[:, y] == 0)}"
        cells = cells if gold_Y[y] else ["-"] * 4
        lines.append(f"| {label} | {gold_Y[y]} | {stated_Y[y]} | {' | '.join(cells)} | {denials} |")
    known_Y = gold_Y > 0
    right = ((found_NY == Mention.PRESENT) & (gold_NY == 1)).sum()
    micro = 2 * right / (stated_Y[known_Y].sum() + gold_Y.sum())
    whole = f"{denied_NY[:, known_Y].sum()} | {_share(denied_NY[:, known_Y], gold_NY[:, known_Y] == 0)}"
    lines.append(f"| mean over labels | | | | | {np.nanmean(scores.f1_Y):.3f} | | | |")
    lines.append(f"| all statements | {gold_Y.sum()} | {stated_Y[known_Y].sum()} | | | {micro:.3f} | | {whole} |")
    return "\n".join(lines)


def against_cases(path: Path, reader: _Reader) -> str:
    """How many rows of a table of sentences are read as it says, and those that are not."""
    table = pd.read_csv(path)
    right = table["right"].fillna(Mention.UNMENTIONED).astype(int)
    lines = []
    for sentence, label, value in zip(table["sentence"], table["label"], right, strict=True):
        found = int(reader([tokenize(clean_text(sentence))], [label])[0, 0])
        if found != value:
            names = [Mention(v).name.lower() for v in (value, found)]
            lines.append(f"| {sentence} | {label} | {names[0]} | {names[1]} |")
    return "\n".join([f"{len(table) - len(lines)} of {len(table)} right\n", *lines])


def against_chexpert(path: Path, reader: _Reader) -> str:
    """How often the reader says of a label what the CheXpert labeler says, and each cell where it does not."""
    table = pd.read_csv(path)
    reports = [tokenize(clean_text(text)) for text in table["Reports"]]
    found_NY = reader(reports, CHEXPERT)
    wanted_NY = table[list(CHEXPERT)].fillna(Mention.UNMENTIONED).to_numpy().astype(np.int8)
    said_NY = wanted_NY != Mention.UNMENTIONED
    lines = [
        f"{len(reports)} reports: of {said_NY.sum()} statements {(said_NY & (found_NY == wanted_NY)).sum()} are read "
        f"alike; of {(~said_NY).sum()} blanks {(~said_NY & (found_NY == wanted_NY)).sum()} stay blank\n",
        "| report | label | CheXpert labeler | reader |\n| --- | --- | --- | --- |",
    ]
    for n, y in np.argwhere(found_NY != wanted_NY):
        names = [Mention(value[n, y]).name.lower() for value in (wanted_NY, found_NY)]
        lines.append(f"| {n + 1} | {CHEXPERT[y]} | {names[0]} | {names[1]} |")
    return "\n".join(lines)


def read(root: Path, reader: _Reader) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """What the reader finds and what the gold labels say, int8 (N, Y), one row a study with a report."""
    images = read_open_i(OpenISource(root=root)).images
    rows = zip(*(images[name].to_pylist() for name in ("study_id", "report", "labels")), strict=True)
    studies = {study: (report, labels) for study, report, labels in rows if report and labels is not None}
    reports = [
        [sentence for s in split_sections(report) if s.name in _READ for sentence in tokenize(clean_text(s.text))]
        for report, _ in studies.values()
    ]
    spoken = [index for index, report in enumerate(reports) if report]
    gold_NY = np.array([labels for _, labels in studies.values()], np.int8)[spoken]
    return reader((reports[index] for index in spoken), NIH14), gold_NY


def intervals(
    found_NY: NDArray[np.int8], gold_NY: NDArray[np.int8], resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """2.5 and 97.5 % quantiles of F1 over resampled reports, (Y,)."""
    generator = np.random.default_rng(0)
    draws = (generator.integers(0, len(gold_NY), len(gold_NY)) for _ in range(resamples))
    f1_RY = np.array([score_mentions(found_NY[rows], gold_NY[rows]).f1_Y for rows in draws])
    seen = np.where(np.isnan(f1_RY).all(0), 0.0, f1_RY)
    low_Y, high_Y = np.nanquantile(seen, [0.025, 0.975], axis=0)
    return low_Y, high_Y


def _share(chosen: NDArray[np.bool_], right: NDArray[np.bool_]) -> str:
    return f"{right[chosen].mean():.4f}" if chosen.any() else "-"


def _by_medspacy() -> _Reader:
    """ConText: negated, then uncertain or hypothetical; what is only history, or a relative's, is not mentioned."""
    import spacy
    from medspacy.context import ConText

    context = ConText(spacy.blank("en"), input_span_type="group", span_group_name="terms")

    def judge(doc: Any) -> Mention:
        context(doc)
        (term,) = doc.spans["terms"]
        if term._.is_negated:
            return Mention.NEGATED
        if term._.is_historical or term._.is_family:
            return Mention.UNMENTIONED
        return Mention.UNCERTAIN if term._.is_uncertain or term._.is_hypothetical else Mention.PRESENT

    return _with_judge(judge)


def _by_negspacy() -> _Reader:
    """NegEx: negated or not; it knows no uncertainty."""
    import spacy
    from negspacy.negation import Negex
    from negspacy.termsets import termset

    language = spacy.blank("en")
    negex = Negex(language, "negex", termset("en_clinical").get_patterns(), [], "negex", [])

    def judge(doc: Any) -> Mention:
        return Mention.NEGATED if negex(doc).ents[0]._.negex else Mention.PRESENT

    return _with_judge(judge)


def _with_judge(judge: Callable[[Any], Mention]) -> _Reader:
    """The project's reader, whose terms are judged one by one as a spaCy document of one sentence and one term."""
    import spacy
    from spacy.tokens import Doc, Span

    vocabulary = spacy.blank("en").vocab

    def read_sentence(tokens: Sentence) -> dict[str, Mention]:
        found: dict[str, Mention] = {}
        for label, (begin, end) in _spans(tokens):
            doc = Doc(vocabulary, words=list(tokens), sent_starts=[i == 0 for i in range(len(tokens))])
            span = Span(doc, begin, end, label="TERM")
            doc.ents, doc.spans["terms"] = [span], [span]
            mention = judge(doc)
            order = [Mention.UNMENTIONED, Mention.NEGATED, Mention.UNCERTAIN, Mention.PRESENT]
            found[label] = max(found.get(label, Mention.UNMENTIONED), mention, key=order.index)
        sentence = f" {' '.join(tokens)} "
        for label, lines in terms.NORMAL_STATEMENTS.items():
            if label not in found and terms.whole_words(lines).search(sentence):
                found[label] = Mention.NEGATED
        for label, lines in terms.BORDERLINE_STATEMENTS.items():
            if terms.whole_words(lines).search(sentence):
                found[label] = Mention.UNCERTAIN
        return found

    def reader(reports: Iterable[_Report], label_names: Sequence[str]) -> NDArray[np.int8]:
        own, report_mentions.read_sentence = report_mentions.read_sentence, read_sentence
        try:
            return mentions(reports, label_names)
        finally:
            report_mentions.read_sentence = own

    return reader


def _spans(tokens: Sentence) -> Iterable[tuple[str, _Span]]:
    """Each term of each label as its first word and the one after its last."""
    sentence = f" {' '.join(tokens)} "
    for label, lines in terms.TERMS.items():
        for match in terms.whole_words(lines).finditer(sentence):
            begin = sentence.count(" ", 0, match.start()) - 1
            yield label, (begin, begin + match.group().count(" ") + 1)


if __name__ == "__main__":
    main()
