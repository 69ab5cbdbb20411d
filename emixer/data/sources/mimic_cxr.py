"""MIMIC-CXR-JPG 2.0.0 as PhysioNet publishes it, or the DICOM images of MIMIC-CXR 2.0.0 with the same tables.

    files/p10/p10000032/s50414267/<dicom_id>.jpg      images; .dcm in MIMIC-CXR, which need the extra `dicom`
    files/p10/p10000032/s50414267.txt                 reports (of MIMIC-CXR; often unpacked to a folder of their own)
    mimic-cxr-2.0.0-{metadata,split,chexpert}.csv.gz  views, official splits, labels of the studies
    patients.csv.gz                                   of MIMIC-IV, where it is given: sex and age of the same patients

Everything but the images and reports is joined here, column by column in Arrow: 377,110 rows take seconds.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emixer.config.ingest import MimicCxrSource
from emixer.data.arrow_memory import release_unused
from emixer.data.labels import CHEXPERT
from emixer.data.schema import OLDEST_YEARS, SPLITS
from emixer.data.sources.collection import (
    Collection,
    LeftOut,
    image_table,
    require_disjoint_subjects,
    require_images,
    select_views,
)
from emixer.data.sources.tables import (
    label_vectors,
    lookup,
    read_table,
    require_one_of,
    require_only,
    require_present,
    require_safe_ids,
    require_unique,
    sexes,
    whole_numbers,
)
from emixer.errors import SourceError

_DATE = "StudyDate"
_SUFFIXES = {"jpg": ".jpg", "dicom": ".dcm"}


def read_mimic_cxr(source: MimicCxrSource) -> Collection:
    """Joins the three tables. Raises SourceError when they are missing or not what they should be."""
    if not (source.root / "files").is_dir():
        raise SourceError(
            f"{source.root} holds no folder `files`. Expected MIMIC-CXR-JPG as published: files/p10/... and the "
            "mimic-cxr-2.0.0-*.csv.gz tables."
        )
    selected, not_selected = _selected(source)
    splits = _splits(source.root, selected)
    listed = pc.is_valid(splits)
    suffix = _SUFFIXES[source.image_format]
    left_out = tuple(
        LeftOut(path, "table", "image is not in the split table")
        for path in _image_paths(selected.filter(pc.invert(listed)), suffix).to_pylist()
    )
    taken = selected.filter(listed)
    del selected  # as much memory as `taken`
    known = {} if source.patients is None else _sex_and_age(source.patients, taken)
    images = _image_table(taken, splits.filter(listed), _labels(source, taken), suffix, known)
    release_unused()
    require_images(images, _find_table(source.root, "metadata"), not_selected)
    require_disjoint_subjects(images, _find_table(source.root, "split"))
    unknown = images["age_years"].null_count if known else 0
    return Collection(
        source="mimic-cxr",
        images=images,
        label_names=CHEXPERT,
        images_root=source.root,
        reports_root=_reports_root(source),
        has_reports=True,
        not_selected=not_selected,
        left_out=left_out,
        remarks={"images whose patient MIMIC-IV's table lacks, or gives no age": unknown} if unknown else {},
    )


def _selected(source: MimicCxrSource) -> tuple[pa.Table, dict[str, int]]:
    """Images of the views that are asked for, and how many there are of each other view."""
    path = _find_table(source.root, "metadata")
    ids = ("dicom_id", "subject_id", "study_id")
    table = read_table(path, (*ids, "ViewPosition", *([_DATE] if source.patients else [])))
    for name in ids:
        require_safe_ids(path, table, name)
    require_unique(path, table, "dicom_id")
    return select_views(table, "ViewPosition", source.views, keep_missing=source.keep_missing_view)


def _find_table(root: Path, name: str) -> Path:
    found = sorted([*root.glob(f"mimic-cxr-*-{name}.csv.gz"), *root.glob(f"mimic-cxr-*-{name}.csv")])
    if not found:
        raise SourceError(
            f"There is no table mimic-cxr-2.0.0-{name}.csv.gz in {root}. Check that the download is complete."
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SourceError(f"{root} holds more than one {name} table: {names}. Keep the one that belongs to the images.")
    return found[0]


def _splits(root: Path, images: pa.Table) -> pa.ChunkedArray:
    path = _find_table(root, "split")
    table = read_table(path, ("dicom_id", "split"))
    require_unique(path, table, "dicom_id")
    require_present(path, table, "split")
    require_one_of(path, table, "split", SPLITS)
    return table["split"].take(lookup(images["dicom_id"], table["dicom_id"]))


def _labels(source: MimicCxrSource, images: pa.Table) -> pa.Array:
    """Label vector of each image's study; null for the few studies that have no row."""
    if source.labeler == "factors":
        return _true_labels(source.root, images)
    path = _find_table(source.root, source.labeler)
    require_only(path, ("subject_id", "study_id", *CHEXPERT))
    table = read_table(path, ("subject_id", "study_id", *CHEXPERT))
    require_unique(path, table, "study_id")
    vectors, rows = label_vectors(path, table, CHEXPERT), lookup(images["study_id"], table["study_id"])
    del table
    labels = vectors.take(rows)
    release_unused()
    return labels


def _true_labels(root: Path, images: pa.Table) -> pa.Array:
    """What each image of the phantom shows, whatever its report says: nothing uncertain, nothing unknown."""
    path = root / "factors.parquet"
    if not path.exists():
        raise SourceError(
            f"ingest.source.labeler=factors needs {path}, the ground truth written by `emixer phantom`. "
            "Real collections have no such table: use chexpert or negbio."
        )
    columns = [f"true_{name.lower().replace(' ', '_')}" for name in CHEXPERT]
    table = pq.read_table(path, columns=["dicom_id", *columns])
    rows = lookup(images["dicom_id"], table["dicom_id"])
    values = np.stack([table[name].take(rows).to_numpy() for name in columns], axis=1)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.int8).ravel()), len(CHEXPERT))


def _sex_and_age(path: Path, images: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Of each image's patient: in MIMIC-IV's anchor year the patient is of the anchor age. Both collections shift a
    patient's dates alike. Ages above 89 are 91 there."""
    if not path.exists():
        raise SourceError(
            f"ingest.source.patients={path} does not exist. Give patients.csv.gz of MIMIC-IV (folder hosp), or omit it."
        )
    table = read_table(path, ("subject_id", "gender", "anchor_age", "anchor_year"))
    require_unique(path, table, "subject_id")
    rows = lookup(images["subject_id"], table["subject_id"])
    if rows.null_count == len(rows):
        raise SourceError(f"{path} has none of these patients. Expected patients.csv.gz of MIMIC-IV.")
    age, year = (whole_numbers(table[name]).take(rows) for name in ("anchor_age", "anchor_year"))
    since = pc.subtract(whole_numbers(pc.utf8_slice_codeunits(images[_DATE], 0, 4)), year)
    years = pc.add(age, since)
    is_plausible = pc.and_(pc.greater_equal(years, 0), pc.less_equal(years, OLDEST_YEARS))
    known = pc.if_else(is_plausible, years, pa.scalar(None, years.type)).cast(pa.int16())
    return {"sex": sexes(table["gender"]).take(rows), "age_years": known}


def _image_table(
    images: pa.Table, splits: pa.ChunkedArray, labels: pa.Array, suffix: str, known: dict[str, pa.ChunkedArray]
) -> pa.Table:
    return image_table(
        len(CHEXPERT),
        dicom_id=images["dicom_id"],
        study_id=images["study_id"],
        subject_id=images["subject_id"],
        view=images["ViewPosition"],
        split=splits,
        image_path=_image_paths(images, suffix),
        report_path=pc.binary_join_element_wise(_study_paths(images), ".txt", ""),
        labels=labels,
        **known,
    )


def _study_paths(images: pa.Table) -> pa.ChunkedArray:
    subject = images["subject_id"]
    prefix = pc.utf8_slice_codeunits(subject, 0, 2)
    return pc.binary_join_element_wise("files/p", prefix, "/p", subject, "/s", images["study_id"], "")


def _image_paths(images: pa.Table, suffix: str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(_study_paths(images), "/", images["dicom_id"], suffix, "")


def _reports_root(source: MimicCxrSource) -> Path:
    if source.reports_root is not None:
        if not (source.reports_root / "files").is_dir():
            raise SourceError(
                f"ingest.source.reports_root={source.reports_root} holds no folder `files`. Expected the unpacked "
                "mimic-cxr-reports.zip: files/p10/p10000032/s50414267.txt."
            )
        return source.reports_root
    unpacked_beside = source.root / "mimic-cxr-reports"
    return unpacked_beside if (unpacked_beside / "files").is_dir() else source.root
