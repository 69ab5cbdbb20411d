"""The rule-based report reader against gold labels of the Indiana reports (Open-i), label by label.

    python benchmarks/report_reader.py --root DIR [--resamples 1000]
    python benchmarks/report_reader.py --chexpert FILE

DIR is the collection as `emixer ingest open-i` takes it, with a label table that has gold_* columns. The reader sees
findings and impression. A label counts as stated when it is present, with `--uncertain` also when it is uncertain.
Intervals are 95 % bootstrap intervals over reports. FILE is a table as the CheXpert labeler writes it: a column
`Reports` and the 14 observations as 1, 0, -1 or blank; printed is where the reader says something else. Prints Markdown
tables; no report text, no ids.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emixer.config.ingest import OpenISource
from emixer.data.labels import CHEXPERT, NIH14
from emixer.data.sections import split_sections
from emixer.data.sources.open_i import read_open_i
from emixer.data.text import clean_text, tokenize
from emixer.evaluation.report_mentions import Mention, mentions, score_mentions

_READ = ("findings", "impression")


def main() -> None:
    """Reads every report that has gold labels once and prints precision, recall and F1 of each label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--root", type=Path)
    source.add_argument("--chexpert", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--uncertain", action="store_true")
    args = parser.parse_args()
    if args.chexpert:
        print(against_chexpert(args.chexpert))
        return
    found_NY, gold_NY = read(args.root)
    if args.uncertain:
        found_NY = np.where(found_NY == Mention.UNCERTAIN, Mention.PRESENT, found_NY).astype(np.int8)
    scores = score_mentions(found_NY, gold_NY)
    low_Y, high_Y = intervals(found_NY, gold_NY, args.resamples)
    print(f"{len(gold_NY):,} reports\n\n| label | gold | stated | precision | recall | F1 | 95 % |\n|{' --- |' * 7}")
    for y, label in enumerate(NIH14):
        gold, stated = int((gold_NY[:, y] == 1).sum()), int((found_NY[:, y] == Mention.PRESENT).sum())
        figures = [scores.precision_Y[y], scores.recall_Y[y], scores.f1_Y[y]]
        cells = [f"{value:.2f}" for value in figures] + [f"{low_Y[y]:.2f} to {high_Y[y]:.2f}"]
        print(f"| {label} | {gold} | {stated} | {' | '.join(cells if gold else ['-'] * 4)} |")
    print(f"| mean | | | | | {np.nanmean(scores.f1_Y):.2f} | |")


def against_chexpert(path: Path) -> str:
    """How often the reader says of a label what the CheXpert labeler says, and each cell where it does not."""
    table = pd.read_csv(path)
    reports = [tokenize(clean_text(text)) for text in table["Reports"]]
    found_NY = mentions(reports, CHEXPERT)
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


def read(root: Path) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """What the reader finds and what the gold labels say, int8 (N, Y), one row a study with a report."""
    films = read_open_i(OpenISource(root=root)).films
    rows = zip(*(films[name].to_pylist() for name in ("study_id", "report", "labels")), strict=True)
    studies = {study: (report, labels) for study, report, labels in rows if report and labels is not None}
    reports = [
        [sentence for s in split_sections(report) if s.name in _READ for sentence in tokenize(clean_text(s.text))]
        for report, _ in studies.values()
    ]
    spoken = [index for index, report in enumerate(reports) if report]
    gold_NY = np.array([labels for _, labels in studies.values()], np.int8)[spoken]
    return mentions((reports[index] for index in spoken), NIH14), gold_NY


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


if __name__ == "__main__":
    main()
