"""RSNA Pneumonia Detection Challenge (Shih et al. 2019), stage 2 as Kaggle publishes it. Needs the extra `dicom`.

    stage_2_train_labels.csv          patientId, Target, a box: one row a box, or one for an image without
    stage_2_detailed_class_info.csv   patientId, class: Lung Opacity, Normal, No Lung Opacity / Not Normal
    stage_2_train_images/*.dcm        images of 1024 px, with sex and age in their headers; the test images have
                                      no labels and are not read

Labels: Lung Opacity (Target 1) and No Finding (class Normal). A `patientId` is an image, and the images are some of NIH
ChestX-ray14's: without RSNA's mapping (`rsna_origin`), a patient may be in two splits here, and in both collections.
"""

import pyarrow as pa
import pyarrow.compute as pc

from emixer.config.ingest import RsnaPneumoniaSource
from emixer.data.labels import Label
from emixer.data.schema import SEX_AND_AGE
from emixer.data.sources.collection import (
    Collection,
    image_table,
    require_disjoint_subjects,
    require_images,
    split_by_subject,
)
from emixer.data.sources.nih_cxr14 import nih_splits
from emixer.data.sources.rsna_origin import read_origin
from emixer.data.sources.tables import (
    find_table,
    lookup,
    read_table,
    require_one_of,
    require_present,
    require_safe_ids,
    require_version,
)
from emixer.errors import SourceError

_LABELS = (str(Label.LUNG_OPACITY), str(Label.NO_FINDING))
_CLASSES = ("Lung Opacity", "Normal", "No Lung Opacity / Not Normal")
_BOXES, _INFO = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
_VERSIONS = {_BOXES: ("patientId", "x", "y", "width", "height", "Target"), _INFO: ("patientId", "class")}
_FOLDER = "stage_2_train_images"


def read_rsna_pneumonia(source: RsnaPneumoniaSource) -> Collection:
    """Reads both tables. Raises SourceError when they are missing, of another stage or contradict each other."""
    path = find_table(source.root, _BOXES)
    targets = _one_row_an_image(source, _BOXES, "Target", ("0", "1"))
    classes = _one_row_an_image(source, _INFO, "class", _CLASSES)
    found = classes["class"].take(lookup(targets["patientId"], classes["patientId"]))
    opaque = pc.equal(targets["Target"], "1")
    contradicting = pc.fill_null(pc.not_equal(opaque, pc.equal(found, _CLASSES[0])), True)
    if pc.any(contradicting).as_py():
        raise SourceError(
            f"{pc.sum(contradicting).as_py():,} images of {path} have another class in {_INFO}, or none. "
            "Both tables must be of stage 2; download them again."
        )
    labels = [opaque, pc.equal(found, "Normal")]
    flat = pa.table([each.cast(pa.int8()) for each in labels], names=_LABELS).to_pandas().to_numpy().ravel()
    ids = targets["patientId"]
    subjects, splits = _subjects(source, ids)
    images = image_table(
        len(_LABELS),
        dicom_id=ids,
        study_id=ids,
        subject_id=subjects,
        split=splits,
        image_path=pc.binary_join_element_wise(f"{_FOLDER}/", pc.binary_join_element_wise(ids, ".dcm", ""), ""),
        labels=pa.FixedSizeListArray.from_arrays(pa.array(flat), len(_LABELS)),
    )
    require_images(images, path, {})
    require_disjoint_subjects(images, path)
    return Collection(
        source="rsna-pneumonia",
        images=images,
        label_names=_LABELS,
        images_root=source.root,
        from_headers=("view", *SEX_AND_AGE),
    )


def _subjects(source: RsnaPneumoniaSource, ids: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.Array]:
    """Whose images they are, and their splits: by NIH's patients where the mapping is given, as in NIH's own ingest
    where its folder is."""
    if source.nih_mapping is None:
        if source.nih_root is not None:
            raise SourceError("ingest.source.nih_root needs ingest.source.nih_mapping, RSNA's table of NIH's images.")
        return ids, split_by_subject(ids, source.validate_fraction, source.test_fraction)
    names, patients = (pa.chunked_array([column]) for column in read_origin(source.nih_mapping, ids))
    if source.nih_root is None:
        return patients, split_by_subject(patients, source.validate_fraction, source.test_fraction)
    splits, official = nih_splits(source.nih_root, names, patients, source.validate_fraction, source.test_fraction)
    if not official:  # by hash, patients would be where NIH's ingest puts them only if its fractions were these
        raise SourceError(
            f"{source.nih_root} has no official lists (train_val_list.txt, test_list.txt). Check "
            "ingest.source.nih_root and download the lists, or unset it to split NIH's patients by hash."
        )
    if splits.null_count:
        raise SourceError(
            f"{splits.null_count:,} images are in neither official list in {source.nih_root}. Download the lists again."
        )
    return patients, splits


def _one_row_an_image(source: RsnaPneumoniaSource, name: str, column: str, allowed: tuple[str, ...]) -> pa.Table:
    """Each image of a table, which may have a row a box, with the one value that its rows agree on."""
    path = find_table(source.root, name)
    require_version(path, {name: _VERSIONS[name]})
    table = read_table(path, ("patientId", column))
    require_safe_ids(path, table, "patientId")
    for each in ("patientId", column):
        require_present(path, table, each)
    require_one_of(path, table, column, allowed)
    rows = table.group_by(["patientId", column], use_threads=False).aggregate([])
    if pc.count_distinct(rows["patientId"]).as_py() < rows.num_rows:
        raise SourceError(f"{path}: an image has two values of {column}. Download the table again.")
    return rows
