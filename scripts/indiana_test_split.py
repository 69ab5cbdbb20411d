"""A test split for the Indiana images (Open-i), which are published with only train and validate.

    python scripts/indiana_test_split.py iu_xray/labels.csv labels.csv

The published validate studies become test; every other study is assigned by a hash of its id: a fifth to test, a tenth
to validate. Give the new table to `emixer ingest open-i --label-csv`.
"""

import argparse
import hashlib
from pathlib import Path

import pandas as pd

TEST, VALIDATE = 20, 10
"""Percentage of the published train studies."""


def main() -> None:
    """Read the published table and write the new one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="with the columns study_id and split")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    images = pd.read_csv(options.labels, dtype=str, keep_default_na=False)
    images["split"] = [split_of(study, split) for study, split in zip(images.study_id, images.split, strict=True)]
    images.to_csv(options.out, index=False)
    print(images.split.value_counts().to_string())


def split_of(study: str, published: str) -> str:
    """Split of a study; all its images stay together."""
    if published == "validate":
        return "test"
    drawn = int(hashlib.sha256(study.encode()).hexdigest(), 16) % 100
    return "test" if drawn < TEST else "validate" if drawn < TEST + VALIDATE else "train"


if __name__ == "__main__":
    main()
