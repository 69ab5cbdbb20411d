"""NIH ChestX-ray14 (Wang et al. 2017) as the NIH Clinical Center publishes it, in its releases of 2017 and 2020.

    Data_Entry_2017_v2020.csv or Data_Entry_2017.csv   one row an image: its findings as A|B, patient, view
    images/*.png, or images_001/images/*.png to 012    images of 1024 px, PA and AP
    train_val_list.txt, test_list.txt                  the official split, which no patient crosses

A finding that an image's cell does not name is absent. The split of validate is a share of the official train_val list.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emixer.config.ingest import NihCxr14Source
from emixer.data.labels import NIH14, Label
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
    AGE_EXPECTED,
    LABELS,
    SEX_EXPECTED,
    ages,
    find_table,
    label_lists,
    named_label_vectors,
    read_table,
    require_known_labels,
    require_safe_ids,
    require_unique,
    require_version,
    sexes,
    unread_cells,
)
from emixer.errors import SourceError

_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "View Position")
_VERSIONS = {
    "Data_Entry_2017_v2020.csv": (*_COLUMNS, "Follow-up #", "Patient Age", "Patient Sex"),
    "Data_Entry_2017.csv": (*_COLUMNS, "Follow-up #", "Patient Age", "Patient Gender"),
}
_SEX = ("Patient Sex", "Patient Gender")
_LISTS = ("train_val_list.txt", "test_list.txt")


def read_nih_cxr14(source: NihCxr14Source) -> Collection:
    """Reads table and lists. Raises SourceError when they are missing, of another version or contradict each other."""
    path = find_table(source.root, *_VERSIONS)
    require_version(path, _VERSIONS)
    table = read_table(path, _COLUMNS, ("Patient Age", *_SEX))
    for name in ("Image Index", "Patient ID"):
        require_safe_ids(path, table, name)
    require_unique(path, table, "Image Index")
    cells = label_lists(path, table, "Finding Labels", "|")
    require_known_labels(path, cells, "Finding Labels", (*NIH14, Label.NO_FINDING))
    table = table.append_column(LABELS, named_label_vectors(cells, NIH14))
    table, not_selected = select_views(table, "View Position", source.views, keep_missing=source.keep_missing_view)
    splits, official = nih_splits(
        source.root, table["Image Index"], table["Patient ID"], source.validate_fraction, source.test_fraction
    )
    listed = pc.is_valid(splits)
    ids, paths = table["Image Index"], _image_paths(source.root, table["Image Index"])
    sex_column = next(name for name in _SEX if name in table.column_names)
    sex, years = sexes(table[sex_column]), ages(table["Patient Age"])
    remarks = unread_cells(sex_column, SEX_EXPECTED, table[sex_column], sex)
    remarks |= unread_cells("Patient Age", AGE_EXPECTED, table["Patient Age"], years)
    images = image_table(
        len(NIH14),
        dicom_id=ids,
        study_id=ids,
        subject_id=table["Patient ID"],
        view=table["View Position"],
        split=splits,
        image_path=paths,
        labels=table[LABELS],
        sex=sex,
        age_years=years,
    ).filter(listed)
    if not official:
        remarks["images split by hash, since the official lists are missing"] = images.num_rows
    require_images(images, path, not_selected)
    require_disjoint_subjects(images, path)
    return Collection(
        source="nih-cxr14",
        images=images,
        label_names=NIH14,
        images_root=source.root,
        not_selected=not_selected,
        left_out=tuple(
            LeftOut(image, "table", "image is in neither official list")
            for image in paths.filter(pc.invert(listed)).to_pylist()
        ),
        remarks=remarks,
    )


def nih_splits(
    root: Path,
    images: pa.ChunkedArray,
    patients: pa.ChunkedArray,
    validate_fraction: float,
    test_fraction: float,
) -> tuple[pa.Array, bool]:
    """The split of each image, null for one that no list names; and whether the official lists are in that folder."""
    there = [name for name in _LISTS if (root / name).is_file()]
    if not there:
        return split_by_subject(patients, validate_fraction, test_fraction), False
    if len(there) < len(_LISTS):
        raise SourceError(f"{root} has {there[0]} but not the other list. Expected {' and '.join(_LISTS)}, or neither.")
    train_val, test = (_names(root / name) for name in _LISTS)
    twice = pc.sum(pc.is_in(train_val, test)).as_py()
    if twice:
        raise SourceError(f"{twice:,} images are in both official lists of {root}. Download the lists again.")
    names = images.combine_chunks()
    by_hash = split_by_subject(patients, validate_fraction, 0.0)
    rest = pc.if_else(pc.is_in(names, train_val), by_hash, pa.nulls(len(names), pa.string()))
    return pc.if_else(pc.is_in(names, test), "test", rest), True


def _names(path: Path) -> pa.Array:
    return pa.array(path.read_text(encoding="utf-8-sig").split(), pa.string())


def _image_paths(root: Path, images: pa.ChunkedArray) -> pa.Array:
    """Where each image lies; where the archives would have put it, if it is nowhere."""
    folders = [folder for folder in (root / "images", *sorted(root.glob("images_0*/images"))) if folder.is_dir()]
    where = {file.name: file.parent for folder in folders for file in folder.iterdir()}
    paths = [(where.get(name, root / "images") / name).relative_to(root).as_posix() for name in images.to_pylist()]
    return pa.array(paths, pa.string())
