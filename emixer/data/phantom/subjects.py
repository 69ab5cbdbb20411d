"""Who the patients are: which study belongs to whom, identifiers, splits. Pure functions of (seed, study index).

Studies are dealt out in cohorts of 40 consecutive indices. Inside a cohort the studies are divided among patients, so
one looks at 40 numbers at most to find a study's patient, whatever the size of the collection.
"""

from dataclasses import dataclass

import numpy as np

from emixer.data.phantom.randomness import Stream, generator

COHORT = 40
MAX_STUDIES = 10_000_000
_STEP = 7_368_787
"""Coprime to 10^7: i -> i * step + offset (mod 10^7) gives every number once."""


@dataclass(frozen=True)
class StudyIdentity:
    """A study's place in the collection."""

    index: int
    subject: int
    """Running number of the patient, with gaps."""
    visit: int
    """0 for the patient's first study."""
    subject_id: str
    study_id: str
    split: str
    study_date: str
    """YYYYMMDD, shifted into the future as the real ones are."""
    study_time: str
    """HHMMSS.fff"""

    @property
    def folder(self) -> str:
        """Of the patient, relative to the collection, e.g. files/p10/p10000032."""
        return f"files/p{self.subject_id[:2]}/p{self.subject_id}"


def identify(seed: int, study: int, validate_fraction: float, test_fraction: float) -> StudyIdentity:
    """The patient, ids, split and date of one study."""
    cohort, place = divmod(study, COHORT)
    rng = generator(seed, Stream.COHORT, cohort)
    owner = _owners(rng)
    patient = int(owner[place])
    visit = int(np.count_nonzero(owner[:place] == patient))
    subject = cohort * COHORT + patient
    subject_offset, study_offset = (int(v) for v in generator(seed, Stream.IDENTITY).integers(0, MAX_STUDIES, 2))
    return StudyIdentity(
        index=study,
        subject=subject,
        visit=visit,
        subject_id=str(10_000_000 + (subject * _STEP + subject_offset) % MAX_STUDIES),
        study_id=str(50_000_000 + (study * _STEP + study_offset) % MAX_STUDIES),
        split=_split(rng, patient, validate_fraction, test_fraction),
        **_date(seed, subject, visit),
    )


def dicom_id(seed: int, study: int, image: int) -> str:
    """Five groups of eight hex digits, as in MIMIC-CXR-JPG."""
    words = generator(seed, Stream.IDENTITY, study, image).integers(0, 2**32, 5, dtype=np.uint32)
    return "-".join(f"{word:08x}" for word in words)


def _owners(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each of the cohort's studies the patient it belongs to; a patient's studies follow each other."""
    sizes = rng.geometric(0.42, COHORT)
    return np.repeat(np.arange(COHORT), sizes)[:COHORT]


def _split(rng: np.random.Generator, patient: int, validate: float, test: float) -> str:
    """Golden-ratio steps cover 0..1 evenly, so that collections of a few dozen studies have all three splits too."""
    position = (float(rng.random()) + patient * 0.6180339887) % 1.0
    if position < test:
        return "test"
    return "validate" if position < test + validate else "train"


def _date(seed: int, subject: int, visit: int) -> dict[str, str]:
    rng = generator(seed, Stream.IDENTITY, subject, 0, 0)
    day = np.datetime64("2110-01-01") + int(rng.integers(0, 90 * 365))
    gaps = rng.geometric(1 / 60, COHORT)
    day = day + int(gaps[:visit].sum())
    second = int(generator(seed, Stream.IDENTITY, subject, visit, 1, 1).integers(6 * 3600, 23 * 3600))
    clock = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}.{second * 7919 % 1000:03d}"
    return {"study_date": str(day).replace("-", ""), "study_time": clock}
