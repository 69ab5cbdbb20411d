"""What every source hands to ingest: one table of images, and what it says of the collection as a whole.

An image table has a row for each image that was selected, whether or not its file is any good.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emixer.data.labels import RESERVED_NAMES
from emixer.data.schema import ENGLISH, KNOWN_OF_IMAGES, SPLITS
from emixer.data.sorted_keys import sorted_rows
from emixer.errors import SourceError

_VIEW_WORDS = {
    "pa", "ap", "ll", "l", "r", "rl", "lat", "lateral", "frontal", "xtable", "swimmers", "rao", "lao", "rpo", "lpo",
    "rld", "lld", "decubitus", "oblique", "obl", "axial", "lordotic", "apical", "horizontal", "supine", "erect",
    "upright", "portable", "costal", "pediatric", "left", "right", "view", "unk", "unknown", "other", "exclude",
}  # fmt: skip
"""What may be shown of a view column, which could be another one that holds names or ids."""
_SUBJECTS_AT_ONCE = 2**14
"""As Python strings, which take five times the memory of Arrow's."""


class LeftOut(NamedTuple):
    """One row of the quarantine table. path: relative to the collection's root."""

    path: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """A raw collection whose tables have been read and checked; no image has been opened.

    images: columns of `image_schema`. report_path is relative to reports_root; report is text that stood in a table.
    not_selected: images that the settings leave out, by reason. left_out: images and files that the tables contradict.
    remarks: other counts a user should see. unmapped_labels: images by label of the source that has no counterpart
    here. report_language: reports in another language than English are kept as text, and neither parsed nor tokenized.
    from_headers: those of HEADER_COLUMNS that the images' DICOM headers tell where no table does.
    """

    source: str
    images: pa.Table
    label_names: tuple[str, ...]
    images_root: Path
    reports_root: Path | None = None
    has_reports: bool = False
    not_selected: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    remarks: Mapping[str, int] = field(default_factory=dict)
    unmapped_labels: Mapping[str, int] = field(default_factory=dict)
    report_language: str = ENGLISH
    from_headers: tuple[str, ...] = ()


def image_schema(num_labels: int) -> pa.Schema:
    """Columns of an image table."""
    return pa.schema(
        [
            ("dicom_id", pa.string()),
            ("study_id", pa.string()),
            ("subject_id", pa.string()),
            ("view", pa.string()),
            ("split", pa.string()),
            ("image_path", pa.string()),
            ("report_path", pa.string()),
            ("report", pa.string()),
            ("labels", pa.list_(pa.int8(), num_labels)),
            *KNOWN_OF_IMAGES.items(),
        ]
    )


def image_table(num_labels: int, **columns: pa.Array | pa.ChunkedArray) -> pa.Table:
    """An image table of the columns given; the others are null."""
    num_rows = len(columns["dicom_id"])
    schema = image_schema(num_labels)
    return pa.table(
        {each.name: columns.get(each.name, pa.nulls(num_rows, each.type)) for each in schema}, schema=schema
    )


def split_by_subject(subject_ids: pa.ChunkedArray, validate_fraction: float, test_fraction: float) -> pa.Array:
    """A split for each subject from a hash of its id: the same for ever, whatever other subjects there are."""
    places = [np.empty(0, np.int8)]
    for start in range(0, len(subject_ids), _SUBJECTS_AT_ONCE):
        subjects = subject_ids.slice(start, _SUBJECTS_AT_ONCE).combine_chunks().dictionary_encode()
        splits = (_split_of(name, validate_fraction, test_fraction) for name in subjects.dictionary.to_pylist())
        of_subjects = np.fromiter(map(SPLITS.index, splits), np.int8, len(subjects.dictionary))
        places.append(of_subjects[subjects.indices.to_numpy()])
    return pa.array(SPLITS).take(pa.array(np.concatenate(places)))


def _split_of(subject_id: str, validate_fraction: float, test_fraction: float) -> str:
    digest = hashlib.blake2b(subject_id.encode(), digest_size=8, person=b"emixer-split").digest()
    position = int.from_bytes(digest, "big") / 2**64
    if position < test_fraction:
        return "test"
    return "validate" if position < test_fraction + validate_fraction else "train"


def select_views(
    table: pa.Table, column: str, views: Sequence[str], *, keep_missing: bool
) -> tuple[pa.Table, dict[str, int]]:
    """Rows whose view is asked for, in whatever case, and how many there are of each other view, by reason.

    Views are spelled as in `views` from here on: "PA" and "pa" would be two conditions of a model.
    """
    view = table[column]
    asked_for = pc.index_in(pc.utf8_lower(view), value_set=pa.array([name.lower() for name in views], pa.string()))
    keep = pc.is_valid(asked_for)
    if keep_missing:
        keep = pc.or_(keep, pc.is_null(view))
    counts: Counter[str] = Counter()
    for item in view.filter(pc.invert(keep)).value_counts().to_pylist():
        counts[_of_view(item["values"])] += item["counts"]
    spelled = pa.array(views, pa.string()).take(asked_for.combine_chunks())
    table = table.set_column(table.column_names.index(column), column, spelled)
    return table.filter(keep), dict(sorted(counts.items()))


def _of_view(value: str | None) -> str:
    if value is None:
        return "of view not given"
    words = re.split(r"[ _-]+", value.lower())
    return f"of view {value}" if _VIEW_WORDS.issuperset(words) else "of an unknown view"


def require_images(images: pa.Table, where: Path, not_selected: Mapping[str, int]) -> None:
    """Raises SourceError when no image is left to read."""
    if images.num_rows == 0:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in not_selected.items()) or "the tables are empty"
        raise SourceError(
            f"No image of {where} is selected ({reasons}). Check the tables and the ingest.source settings."
        )


def require_usable_names(label_names: Sequence[str]) -> None:
    """Raises SourceError for two labels of one name, in whatever case, or a name that other columns of datasets have.

    Two spellings would share a finding's images between two labels.
    """
    spelling: dict[str, str] = {}
    for name in label_names:
        other = spelling.setdefault(name.lower(), name)
        if name.lower() in RESERVED_NAMES:
            raise SourceError(
                f"No label may be named {name!r}: generated datasets and label plans reserve the names "
                f"{', '.join(RESERVED_NAMES)} for other columns. Rename it in the table."
            )
        if other != name:
            raise SourceError(f"The labels {other!r} and {name!r} differ only in case. Spell them alike in the table.")
    if len(spelling) < len(label_names):
        twice = next(name for place, name in enumerate(label_names) if name in label_names[:place])
        raise SourceError(f"The label {twice!r} is given twice. Give each label once (NIH14 and CHEXPERT share some).")


def require_disjoint_subjects(images: pa.Table, where: Path) -> None:
    """Raises SourceError when a patient's images are in two splits, which would leak test patients into training."""
    order, is_same = sorted_rows(images["subject_id"])
    splits = pc.index_in(images["split"], value_set=pa.array(SPLITS)).to_numpy()[order]
    subject = np.cumsum(~is_same)
    num_mixed = len(np.unique(subject[is_same & (splits[:-1] != splits[1:])]))
    if num_mixed:
        raise SourceError(
            f"{where}: {num_mixed:,} subjects have images in more than one split. Splits must not share subjects; "
            f"give each subject one of {', '.join(SPLITS)}."
        )
