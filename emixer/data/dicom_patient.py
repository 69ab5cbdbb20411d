"""Sex and age of the patient, and the view, in a DICOM header. Nothing else of a person is ever read.

    PatientSex   F or M; O, which is also what collections write for "unknown", is null
    PatientAge   three digits and a unit: 045Y, 006M, 003W, 012D (PS3.5 6.2); RSNA's files have plain years, "51"
    ViewPosition AP or PA

None of them is needed for the pixels, so nothing that is wrong with them keeps an image out.
"""

from typing import TYPE_CHECKING

from emixer.data.ages import whole_years

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PATIENT_TAGS = ("PatientSex", "PatientAge", "ViewPosition")

_NO_YEARS = ("0", "00", "000", "0Y", "00Y", "000Y")


def sex_of(header: "Dataset") -> str | None:
    """F or M; None for anything else."""
    sex = _text(header, "PatientSex").upper()
    return sex if sex in ("F", "M") else None


def age_years_of(header: "Dataset") -> int | None:
    """Whole years; None for anything that is no age of a person.

    No years at all are none either: 000Y is what de-identification and devices without a date of birth write, while an
    infant's age stands in days, weeks or months.
    """
    age = _text(header, "PatientAge")
    return None if age.upper() in _NO_YEARS else whole_years(age)


def view_of(header: "Dataset") -> str | None:
    """AP or PA; None for anything else: other views have many spellings, and tables say which images are lateral."""
    view = _text(header, "ViewPosition").upper()
    return view if view in ("AP", "PA") else None


def _text(header: "Dataset", keyword: str) -> str:
    """An element's text as it stands in the file; pydicom's own parsing would raise for damaged bytes."""
    stored = header.get_item(keyword).value if keyword in header else None
    return stored.decode("latin-1").strip(" \0") if isinstance(stored, bytes) else ""
