"""BRAX 1.1.0 (Reis et al. 2022) as PhysioNet publishes it: Brazilian images with CheXpert's labels.

    master_spreadsheet_update.csv   one row an image: PngPath, patient, study, view, 14 labels (1, 0, -1, blank)
    images/id_.../Study_.../...png  images

The images are read as PNG. The reports, in Portuguese, are not part of the collection, nor are splits.
"""

import pyarrow.compute as pc

from emixer.config.ingest import BraxSource
from emixer.data.labels import CHEXPERT
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
    find_table,
    label_vectors,
    read_table,
    require_inside,
    require_present,
    require_unique,
    require_version,
    sexes,
    unread_cells,
)

_TABLE = "master_spreadsheet_update.csv"
_KNOWN = ("PatientSex", "PatientAge", "Manufacturer")
_COLUMNS = ("PngPath", "PatientID", "AccessionNumber", "ViewPosition", *_KNOWN, *CHEXPERT)


def read_brax(source: BraxSource) -> Collection:
    """Reads the table. Raises SourceError when it is missing or of another version."""
    path = find_table(source.root, _TABLE)
    require_version(path, {f"BRAX 1.1.0, {_TABLE}": _COLUMNS})
    table = read_table(path, _COLUMNS)
    require_unique(path, table, "PngPath")
    require_inside(path, table, "PngPath")
    for name in ("PatientID", "AccessionNumber"):
        require_present(path, table, name)
    table = table.append_column(LABELS, label_vectors(path, table, CHEXPERT))
    table, not_selected = select_views(table, "ViewPosition", source.views, keep_missing=source.keep_missing_view)
    images = image_table(
        len(CHEXPERT),
        dicom_id=table["PngPath"],
        # an accession number alone is not unique
        study_id=pc.binary_join_element_wise(table["PatientID"], table["AccessionNumber"], "/"),
        subject_id=table["PatientID"],
        view=table["ViewPosition"],
        split=split_by_subject(table["PatientID"], source.validate_fraction, source.test_fraction),
        image_path=table["PngPath"],
        labels=table[LABELS],
        sex=sexes(table["PatientSex"]),
        age_years=ages(table["PatientAge"]),
        manufacturer=table["Manufacturer"],
    )
    require_images(images, path, not_selected)
    require_disjoint_subjects(images, path)
    return Collection(
        source="brax",
        images=images,
        label_names=CHEXPERT,
        images_root=source.root,
        not_selected=not_selected,
        remarks=unread_cells("PatientSex", SEX_EXPECTED, table["PatientSex"], images["sex"])
        | unread_cells("PatientAge", AGE_EXPECTED, table["PatientAge"], images["age_years"]),
    )
