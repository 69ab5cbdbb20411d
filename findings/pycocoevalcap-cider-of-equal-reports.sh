#!/usr/bin/env bash
# CIDEr gives a report that equals its reference 0 of 10 points where all references say the same, and 7.5 where it is short.
#
# Expected: a report that is its reference word for word gets the best score there is, 10, beside any other reports.
# Seen: with pycocoevalcap 1.2 `Cider` weighs each phrase by log(references / references with the phrase), which is 0 for a
# phrase that all of them have, and takes the mean over phrases of one to four words also where a report has three words.
# Four equal pairs "no acute disease is seen" score 0; "no acute disease" among others scores 7.5; a single equal pair 0.
# Why it matters here: most chest X-rays are normal and their reports alike. The more of them a test split has, the lower its
# CIDEr although every report is right, so that figures of two collections, or of the healthy and the ill, do not compare.
# Document frequencies are taken over a whole split here, and the split is named beside the figure.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pycocoevalcap==1.2' 'numpy==2.4.1'
cat >"$folder/look.py" <<'PYTHON'
from importlib.metadata import version

from pycocoevalcap.cider.cider import Cider


def scores(reports: list[str]) -> list[float]:
    pairs = {study: [report] for study, report in enumerate(reports)}
    return [round(float(score), 2) for score in Cider().compute_score(pairs, pairs)[1]]


alike = scores(["no acute disease is seen"] * 4)
mixed = scores(["no acute disease", "the heart is mildly enlarged", "there is a small left pleural effusion"])
alone = scores(["there is a small left pleural effusion"])
print(f"pycocoevalcap {version('pycocoevalcap')}, every report equal to its reference, 10 is the best:")
print(f"four alike {alike}, three different ones, the first of three words {mixed}, one alone {alone}")
raise SystemExit(not (alike == [0.0] * 4 and mixed == [7.5, 10.0, 10.0] and alone == [0.0]))
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
