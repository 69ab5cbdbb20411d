"""Tables laid out and proportioned as MIMIC-CXR-JPG's, of made-up ids and labels: what planning an ingest has to join.

    python benchmarks/mimic_tables.py FOLDER IMAGES

No images and no reports. MIMIC-CXR has 377,110 images in 227,835 studies of 65,379 patients.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from emixer.data.labels import CHEXPERT
from emixer.data.schema import SPLITS

_STUDIES, _SUBJECTS = 227_835 / 377_110, 65_379 / 377_110
_VIEWS, _VIEW_SHARES = ["PA", "AP", "LATERAL", "LL", ""], [0.25, 0.39, 0.2, 0.12, 0.04]


def main(folder: Path, num_images: int) -> None:
    """Writes the three tables and the folders that a reader expects."""
    rng = np.random.default_rng(0)
    num_studies, num_subjects = int(num_images * _STUDIES), int(num_images * _SUBJECTS)
    subject_of = np.sort(rng.integers(0, num_subjects, num_studies))
    more = rng.integers(0, num_studies, num_images - num_studies)
    study = np.sort(np.concatenate([np.arange(num_studies), more]))
    subject = subject_of[study]
    ids = ["-".join(f"{part:08x}" for part in parts) for parts in rng.integers(0, 2**32, (num_images, 5))]
    splits = rng.choice(SPLITS, num_subjects, p=[0.97, 0.01, 0.02])
    keys = {"dicom_id": ids, "subject_id": 10_000_000 + subject, "study_id": 50_000_000 + study}
    (folder / "files").mkdir(parents=True)
    _write(folder, "metadata", {**keys, "ViewPosition": rng.choice(_VIEWS, num_images, p=_VIEW_SHARES)})
    _write(folder, "split", {**keys, "split": splits[subject]})
    labels = {name: rng.choice(["", "1.0", "0.0", "-1.0"], num_studies) for name in CHEXPERT}
    numbers = {"subject_id": 10_000_000 + subject_of, "study_id": 50_000_000 + np.arange(num_studies)}
    _write(folder, "chexpert", {**numbers, **labels})


def _write(folder: Path, name: str, columns: dict[str, object]) -> None:
    with pa.CompressedOutputStream(str(folder / f"mimic-cxr-2.0.0-{name}.csv.gz"), "gzip") as file:
        pa_csv.write_csv(pa.table(columns), file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
