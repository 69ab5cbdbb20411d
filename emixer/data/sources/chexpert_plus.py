"""The reports of CheXpert Plus (Chambon et al. 2024), which are of the images of CheXpert v1.0.

    df_chexpert_plus_240401.csv   one row an image: path_to_image, section_findings, section_impression and much else

Paths are those of v1.0 without the archive's name. Both sections are read under headers of their own, so that the rule
for sections of all collections applies; the whole `report`, of whose sections these are two, is not.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emixer.data.sources.tables import lookup, read_table, require_file, require_unique, require_version
from emixer.errors import SourceError

_PATH, _FINDINGS, _IMPRESSION = "path_to_image", "section_findings", "section_impression"
_COLUMNS = (_PATH, _FINDINGS, _IMPRESSION)
_SUFFIX = r"\.[A-Za-z]+$"
"""Images are JPEG in v1.0 and PNG in Plus."""


def reports_of(path: Path, images: pa.ChunkedArray) -> pa.ChunkedArray:
    """The report of each image, by its path in v1.0; null where it has none. Raises SourceError for another table."""
    require_file(path, "ingest.source.reports")
    require_version(path, {"CheXpert Plus": _COLUMNS})
    table = read_table(path, _COLUMNS)
    require_unique(path, table, _PATH)
    rows = lookup(_without_suffix(images), _without_suffix(table[_PATH]))
    if rows.null_count == len(rows):
        raise SourceError(
            f"{path} has a report for none of the images. Expected paths as in train.csv, without the archive's name: "
            "train/patient00001/study1/view1_frontal.jpg."
        )
    findings, impression = _under(table[_FINDINGS], "FINDINGS"), _under(table[_IMPRESSION], "IMPRESSION")
    both = pc.binary_join_element_wise(findings, impression, "\n\n")
    return pc.coalesce(both, findings, impression).take(rows)


def _without_suffix(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(paths, _SUFFIX, "")


def _under(section: pa.ChunkedArray, header: str) -> pa.ChunkedArray:
    """A section's text under its header; null where it is blank."""
    return pc.binary_join_element_wise(f"{header}:", section, "\n")
