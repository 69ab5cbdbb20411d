"""Any folder of images with a CSV of one row an image, whose columns the settings name (NIH, COVID, your own)."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emixer.config.ingest import ImageFolderSource
from emixer.data.labels import CHEXPERT, NIH14
from emixer.data.schema import SEX_AND_AGE, SPLITS
from emixer.data.sources.collection import (
    Collection,
    image_table,
    require_disjoint_subjects,
    require_images,
    select_views,
    split_by_subject,
)
from emixer.data.sources.tables import (
    AGE_EXPECTED,
    LABELS,
    SEX_EXPECTED,
    ages,
    label_lists,
    label_vectors,
    named_label_vectors,
    read_table,
    require_file,
    require_inside,
    require_one_of,
    require_present,
    require_unique,
    sexes,
    unread_cells,
)
from emixer.errors import SourceError

_NAMED_SETS = {"NIH14": NIH14, "CHEXPERT": CHEXPERT}
_SPLIT_SYNONYMS = {
    "training": "train",
    "val": "validate",
    "valid": "validate",
    "validation": "validate",
    "testing": "test",
}
_MAX_CLASSES = 256


def read_image_folder(source: ImageFolderSource) -> Collection:
    """Reads the CSV. Raises SourceError when a column or value is not what the settings promise."""
    if not source.root.is_dir():
        raise SourceError(f"There is no folder {source.root}. ingest.source.root holds the images of the CSV.")
    path = source.label_csv
    require_file(path, "ingest.source.label_csv")
    table, label_names = _read_labelled(source)
    table, not_selected = _select_views(source, table)
    images = _image_table(source, table, len(label_names))
    require_images(images, path, not_selected)
    require_disjoint_subjects(images, path)
    return Collection(
        source=source.name,
        images=images,
        label_names=label_names,
        images_root=source.root,
        has_reports=source.report_column is not None,
        not_selected=not_selected,
        remarks=_remarks(source, table, images),
        report_language=source.report_language,
        from_headers=SEX_AND_AGE if source.sex_and_age_from_headers else (),
    )


def _read_labelled(source: ImageFolderSource) -> tuple[pa.Table, tuple[str, ...]]:
    """The columns that the settings name, with the label vectors as column LABELS, and the labels' names."""
    if bool(source.label_columns) == bool(source.class_column):
        raise SourceError(
            "Give either ingest.source.label_columns (columns of 1, 0, -1 or blank; or NIH14, CHEXPERT) or "
            "ingest.source.class_column (one column with the class)."
        )
    path = source.label_csv
    label_names = _expanded(source.label_columns)
    table = read_table(path, list(dict.fromkeys([*_named_columns(source), *label_names])))
    require_unique(path, table, source.path_column)
    require_inside(path, table, source.path_column)
    patient = source.subject_column or source.study_column
    if patient is not None:  # splits are made by it
        require_present(path, table, patient)
    if source.class_column is not None:
        label_names, labels = _named_labels(path, table, source.class_column, source.label_separator)
    else:
        labels = label_vectors(path, table, label_names)
    return table.append_column(LABELS, labels), label_names


def _named_columns(source: ImageFolderSource) -> list[str]:
    """Columns of every setting `..._column` that is given."""
    named = [getattr(source, name) for name in type(source).model_fields if name.endswith("_column")]
    return [name for name in named if name is not None]


def _remarks(source: ImageFolderSource, table: pa.Table, images: pa.Table) -> dict[str, int]:
    """What a user should know: what counts as a patient where no column tells, and how many cells of sex and age could
    not be read."""
    remarks = {}
    if source.subject_column is None:
        each = "study" if source.study_column is not None else "image"
        remarks[f"images of unknown patients: each {each} counts as one (no subject_column)"] = images.num_rows
    for name, column, expected in (
        ("sex", source.sex_column, SEX_EXPECTED),
        ("age_years", source.age_column, AGE_EXPECTED),
    ):
        if column is not None:
            remarks |= unread_cells(column, expected, table[column], images[name])
    return remarks


def _expanded(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(label for name in names for label in _NAMED_SETS.get(name, (name,)))


def _named_labels(path: Path, table: pa.Table, column: str, separator: str | None) -> tuple[tuple[str, ...], pa.Array]:
    """Labels in alphabetical order, 1 where an image's cell names them and 0 elsewhere; none at all for a blank
    cell."""
    cells = label_lists(path, table, column, separator)
    names = sorted({name for cell in cells.dictionary.to_pylist() for name in cell})
    if not 1 < len(names) <= _MAX_CLASSES:
        raise SourceError(
            f"{path}: {column!r} holds {len(names):,} classes. Expected 2 to {_MAX_CLASSES}; is it the right column?"
        )
    return tuple(names), named_label_vectors(cells, names)


def _select_views(source: ImageFolderSource, table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Images of the views asked for, where a column tells them."""
    if source.view_column is None:
        return table, {}
    return select_views(table, source.view_column, source.views, keep_missing=source.keep_missing_view)


def _image_table(source: ImageFolderSource, table: pa.Table, num_labels: int) -> pa.Table:
    nothing = pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
    images = table[source.path_column]

    def column(name: str | None, otherwise: pa.ChunkedArray) -> pa.ChunkedArray:
        return otherwise if name is None else pc.coalesce(table[name], otherwise)

    study_ids = column(source.study_column, images)
    subject_ids = column(source.subject_column, study_ids)
    if _numbered_within_patients(study_ids, subject_ids):
        study_ids = pc.binary_join_element_wise(subject_ids, study_ids, "/")
    return image_table(
        num_labels,
        dicom_id=images,
        study_id=study_ids,
        subject_id=subject_ids,
        view=column(source.view_column, nothing),
        split=_splits(source, table, subject_ids),
        image_path=images,
        report=column(source.report_column, nothing),
        labels=table[LABELS],
        sex=sexes(column(source.sex_column, nothing)),
        age_years=ages(column(source.age_column, nothing)),
        manufacturer=column(source.manufacturer_column, nothing),
    )


def _numbered_within_patients(study_ids: pa.ChunkedArray, subject_ids: pa.ChunkedArray) -> bool:
    """Whether studies of different patients share an id, like visit 1 of each."""
    pairs = pa.table({"study": study_ids, "subject": subject_ids}).group_by(["study", "subject"]).aggregate([])
    return bool(pc.count_distinct(pairs["study"]).as_py() < pairs.num_rows)


def _splits(source: ImageFolderSource, table: pa.Table, subject_ids: pa.ChunkedArray) -> pa.Array:
    if source.split_column is None:
        return split_by_subject(subject_ids, source.validate_fraction, source.test_fraction)
    name = source.split_column
    require_present(source.label_csv, table, name)
    require_one_of(source.label_csv, table, name, [*SPLITS, *_SPLIT_SYNONYMS])
    synonyms = pc.index_in(table[name], value_set=pa.array(list(_SPLIT_SYNONYMS)))
    return pc.coalesce(pa.array(list(_SPLIT_SYNONYMS.values())).take(synonyms.combine_chunks()), table[name])
