"""Content that no shared report should have: names, dates and long numbers, found by pattern.

De-identification masks are counted too. They name no one, but a model that writes them repeats the wording of real
reports (`clean_text` turns all kinds into `___`).
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_MONTHS = (
    "january|february|march|april|may|june|july|august|september|october|november|december|"
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec"
)
_PATTERNS = {
    "names": r"\b(dr|mr|mrs|ms|prof)\. ?[a-z]{2,}|\b(dr|mrs|prof|doctor|patient named) [a-z]{3,}\b",
    "dates": (
        r"\b\d{1,2}[/.-]\d{1,2}[/.-](\d{4}|\d{2})\b|\b(19|20)\d\d-\d{1,2}-\d{1,2}\b"
        rf"|\b({_MONTHS})\.? \d{{1,2}}(,? (19|20)\d\d)?\b|\b({_MONTHS}) (19|20)\d\d\b"
        r"|\b(in|from|of|since|dated) (19|20)\d\d\b"
    ),
    "numbers": r"\b\d{6,}\b|\b\d{3}[ .-]\d{3}[ .-]\d{4}\b|\bmrn ?:? ?\d+\b",
    "masks": r"_{2,}|\bx{3,}\b",
}
IDENTIFYING = ("names", "dates", "numbers")
"""Kinds for which a report is withheld."""


def traces(texts: pa.Array | pa.ChunkedArray) -> Mapping[str, NDArray[np.bool_]]:
    """Which reports contain each kind: `names`, `dates`, `numbers` of six digits or more, `masks`."""
    return {
        kind: np.asarray(pc.match_substring_regex(texts, pattern, ignore_case=True).fill_null(False), bool)
        for kind, pattern in _PATTERNS.items()
    }
