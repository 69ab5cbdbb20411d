"""PadChest (Bustos et al. 2020) as BIMCV publishes it, with the label table of 2019 (160K_01.02.19).

    PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv   one row an image: projection, labels as a Python list, report
    0/*.png to 54/*.png                                    images, 16-bit PNG; all in one folder will do, too

Labels become the 14 CheXpert observations by the table of `emixer.data.padchest_labels`: 1 where an image's list names
one, else 0.
Reports are Spanish: kept as text, and neither parsed nor tokenized nor scored. The collection has no splits.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emixer.config.ingest import PadChestSource
from emixer.data.labels import CHEXPERT
from emixer.data.padchest_labels import EXCLUDED, PADCHEST_LABELS, SAYS_NOTHING
from emixer.data.schema import OLDEST_YEARS
from emixer.data.sources.collection import (
    Collection,
    LeftOut,
    image_table,
    require_disjoint_subjects,
    require_images,
    select_views,
    split_by_subject,
)
from emixer.data.sources.tables import (
    LABELS,
    SEX_EXPECTED,
    find_table,
    label_lists,
    named_label_vectors,
    read_table,
    require_inside,
    require_unique,
    require_version,
    sexes,
    unread_cells,
    without,
)

_VERSIONS = {
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv": (
        "ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Report", "Labels",
    )
}  # fmt: skip
_OPTIONAL = ("PatientSex_DICOM", "PatientBirth", "StudyDate_DICOM", "Manufacturer_DICOM")


def read_padchest(source: PadChestSource) -> Collection:
    """Reads the table. Raises SourceError when it is missing or of another version."""
    path = find_table(source.root, *_VERSIONS, "PADCHEST*.csv", "PADCHEST*.csv.gz", "padchest.csv")
    version = require_version(path, _VERSIONS)
    table = _without_nan(read_table(path, _VERSIONS[version], _OPTIONAL))
    require_unique(path, table, "ImageID")
    for name in ("ImageID", "ImageDir"):
        require_inside(path, table, name)
    table = table.append_column(LABELS, _in_lower_case(label_lists(path, table, "Labels", None)))
    table, not_selected = select_views(table, "Projection", source.views, keep_missing=source.keep_missing_view)
    excluded = _naming(table[LABELS].combine_chunks(), EXCLUDED)
    if excluded.any():
        not_selected["labelled exclude by the collection"] = int(excluded.sum())
        table = table.filter(pa.array(~excluded))
    known = pc.and_(pc.is_valid(table["PatientID"]), pc.is_valid(table["StudyID"]))
    nameless, table = _image_paths(source.root, table.filter(pc.invert(known))), table.filter(known)
    cells = table[LABELS].combine_chunks()
    images = image_table(
        len(CHEXPERT),
        dicom_id=table["ImageID"],
        study_id=table["StudyID"],
        subject_id=table["PatientID"],
        view=table["Projection"],
        split=split_by_subject(table["PatientID"], source.validate_fraction, source.test_fraction),
        image_path=_image_paths(source.root, table),
        report=table["Report"],
        labels=named_label_vectors(_observations(cells), CHEXPERT),
        **_known(table),
    )
    require_images(images, path, not_selected)
    require_disjoint_subjects(images, path)
    return Collection(
        source="padchest",
        images=images,
        label_names=CHEXPERT,
        images_root=source.root,
        has_reports=True,
        not_selected=not_selected,
        left_out=tuple(LeftOut(image, "table", "image has no patient or no study") for image in nameless.to_pylist()),
        remarks=_remarks(table, images),
        unmapped_labels=_unmapped(cells),
        report_language="es",
    )


def _without_nan(table: pa.Table) -> pa.Table:
    """The table without the word nan, which its authors' program wrote for what was missing (labels and report of some
    hundred images, among others)."""
    for place, name in enumerate(table.column_names):
        blank = pc.is_in(table[name], value_set=pa.array(["nan", "NaN", "None"]))
        table = table.set_column(place, name, pc.if_else(blank, pa.scalar(None, pa.string()), table[name]))
    return table


def _known(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """What excerpts of the table may lack."""
    known = {}
    if "PatientSex_DICOM" in table.column_names:
        known["sex"] = sexes(table["PatientSex_DICOM"])
    if "PatientBirth" in table.column_names and "StudyDate_DICOM" in table.column_names:
        known["age_years"] = _ages(table["PatientBirth"], table["StudyDate_DICOM"])
    if "Manufacturer_DICOM" in table.column_names:
        known["manufacturer"] = table["Manufacturer_DICOM"]
    return known


def _remarks(table: pa.Table, images: pa.Table) -> dict[str, int]:
    remarks: dict[str, int] = {}
    if "PatientSex_DICOM" in table.column_names:
        remarks |= unread_cells("PatientSex_DICOM", SEX_EXPECTED, table["PatientSex_DICOM"], images["sex"])
    if "PatientBirth" in table.column_names and "StudyDate_DICOM" in table.column_names:
        dated = pc.and_(pc.is_valid(table["PatientBirth"]), pc.is_valid(table["StudyDate_DICOM"]))
        count = pc.sum(pc.and_(dated, pc.is_null(images["age_years"]))).as_py()
        if count:
            remarks["images whose years of birth and study give no age, so that it is unknown"] = count
    return remarks


def _ages(births: pa.ChunkedArray, studies: pa.ChunkedArray) -> pa.ChunkedArray:
    """Years from that of birth (1952 or 1952.0) to that of the study (20140915); null where either is not one, or the
    difference is no age."""
    born = pc.struct_field(pc.extract_regex(births, r"^(?P<year>\d{4})(?:\.0)?$"), "year").cast(pa.int16())
    seen = pc.struct_field(pc.extract_regex(studies, r"^(?P<year>\d{4})\d{4}(?:\.0)?$"), "year").cast(pa.int16())
    ages = pc.subtract(seen, born)
    is_age = pc.and_(pc.greater_equal(ages, 0), pc.less_equal(ages, OLDEST_YEARS))
    return pc.if_else(is_age, ages, pa.scalar(None, pa.int16()))


def _image_paths(root: Path, table: pa.Table) -> pa.Array:
    """<ImageDir>/<ImageID>, or <ImageID> where the folder is not there."""
    folders = [name for name in pc.unique(table["ImageDir"]).to_pylist() if name and (root / name).is_dir()]
    in_folder = pc.is_in(table["ImageDir"], pa.array(folders, pa.string()))
    return pc.if_else(
        in_folder, pc.binary_join_element_wise(table["ImageDir"], table["ImageID"], "/"), table["ImageID"]
    )


def _in_lower_case(cells: pa.DictionaryArray) -> pa.DictionaryArray:
    return _relabelled(cells, [[name.lower() for name in names] for names in cells.dictionary.to_pylist()])


def _observations(cells: pa.DictionaryArray) -> pa.DictionaryArray:
    """The observations of each list; null for a list that says nothing of what the image shows."""
    standing_for = [
        [str(label) for label, known in PADCHEST_LABELS.items() if set(names) & set(known)]
        for names in cells.dictionary.to_pylist()
    ]
    observed = _relabelled(cells, standing_for)
    lists = cells.dictionary.to_pylist()
    return without(observed, [place for place, names in enumerate(lists) if names and set(names) <= SAYS_NOTHING])


def _unmapped(cells: pa.DictionaryArray) -> dict[str, int]:
    """Images by label that stands for no observation, the most frequent first."""
    known = {name for names in PADCHEST_LABELS.values() for name in names} | SAYS_NOTHING
    lists = cells.dictionary.to_pylist()
    counts: Counter[str] = Counter()
    for item in cells.indices.drop_null().value_counts().to_pylist():
        for name in set(lists[item["values"]]) - known:
            counts[name] += item["counts"]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _naming(cells: pa.DictionaryArray, label: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    naming = [i for i, names in enumerate(cells.dictionary.to_pylist()) if label in names]
    marked: np.ndarray[tuple[int], np.dtype[np.bool_]] = pc.fill_null(
        pc.is_in(cells.indices, pa.array(naming, pa.int32())), False
    ).to_numpy(zero_copy_only=False)
    return marked


def _relabelled(cells: pa.DictionaryArray, lists: list[list[str]]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(cells.indices, pa.array(lists, pa.list_(pa.string())))
