"""Ages as tables and DICOM headers write them."""

import re

from emixer.data.schema import OLDEST_YEARS

_AGE = re.compile(
    r"(\d{1,3})(?:\.\d+)?([DWMY]?)(?: ?(?:-|\u2013|TO) ?\d{1,3}Y?| ?\+| (?:OR|AND) (?:MORE|OLDER|OVER|ABOVE))?",
    re.ASCII,
)
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1, "": 1}


def whole_years(text: str) -> int | None:
    """Whole years of 58, 58.5, 058Y and 007M (months; W and D likewise); None for anything that is no age of a person.

    A group of ages, as de-identified tables have them (60-64, 85 or more, 90+), is its lowest.
    """
    age = _AGE.fullmatch(text.upper())
    if age is None:
        return None
    years = int(int(age[1]) / _PER_YEAR[age[2]])
    return years if years <= OLDEST_YEARS else None
