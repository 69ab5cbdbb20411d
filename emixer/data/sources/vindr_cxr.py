"""VinDr-CXR 1.0.0 (Nguyen et al. 2022) as PhysioNet publishes it. Needs the extra `dicom`.

    annotations/image_labels_train.csv   a row an image and reader (three readers an image): 28 labels, 1 or 0
    annotations/image_labels_test.csv    a row an image: what five readers agreed on
    train/*.dicom, test/*.dicom          images, all PA; of the patient, headers keep sex, age, size and weight

The collection names no patients: an image counts as one. A share of the official train images becomes validate.

Shapes: R rows of readers, N images, Y labels.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from emixer.config.ingest import VindrCxrSource
from emixer.data.labels import VINDR28, Label
from emixer.data.schema import SEX_AND_AGE
from emixer.data.sources.collection import Collection, image_table, require_images, split_by_subject
from emixer.data.sources.tables import (
    label_vectors,
    read_header,
    read_table,
    require_present,
    require_safe_ids,
    require_unique,
    require_version,
)
from emixer.errors import SourceError

_OTHER = ("Other diseases", "Other disease")
"""The train table has the first, the test table the second."""


def read_vindr_cxr(source: VindrCxrSource) -> Collection:
    """Reads both tables. Raises SourceError when they are missing, of another version or name an image twice."""
    annotations = source.root / "annotations"
    train_ids, train_NY, num_split = _train(annotations / "image_labels_train.csv", source)
    test_path = annotations / "image_labels_test.csv"
    test, test_NY = _read(test_path, "image_id")
    require_unique(test_path, test, "image_id")
    if pc.any(pc.is_in(test["image_id"], train_ids)).as_py():
        raise SourceError(f"{annotations}: images are in the train and in the test table. Download the tables again.")
    ids = pa.concat_arrays([train_ids, test["image_id"].combine_chunks()])
    is_train = np.arange(len(ids)) < len(train_ids)
    hashed = split_by_subject(pa.chunked_array([ids]), source.validate_fraction, 0.0)
    labels_NY = np.concatenate([train_NY, test_NY])
    images = image_table(
        len(VINDR28),
        dicom_id=ids,
        study_id=ids,
        subject_id=ids,
        view=pa.repeat("PA", len(ids)),
        split=pc.if_else(pa.array(is_train), hashed, "test"),
        image_path=pc.binary_join_element_wise(
            pc.if_else(pa.array(is_train), "train/", "test/"), pc.binary_join_element_wise(ids, ".dicom", ""), ""
        ),
        labels=pa.FixedSizeListArray.from_arrays(pa.array(labels_NY.ravel()), len(VINDR28)),
    )
    require_images(images, annotations, {})
    return Collection(
        source="vindr-cxr",
        images=images,
        label_names=VINDR28,
        images_root=source.root,
        remarks={"images on which the readers of train disagree": num_split},
        from_headers=SEX_AND_AGE,
    )


def _train(path: Path, source: VindrCxrSource) -> tuple[pa.Array, NDArray[np.int8], int]:
    """Images, the labels that their readers' votes come to, and on how many images the readers disagree.

    majority: more than half of the readers say so. any: one does, and "No Finding" only where all do.
    """
    table, votes_RY = _read(path, "image_id", "rad_id")
    require_present(path, table, "rad_id")
    if table.group_by(["image_id", "rad_id"]).aggregate([]).num_rows < table.num_rows:
        raise SourceError(f"{path}: a reader has two rows for one image. Download the table again.")
    images = table["image_id"].combine_chunks().dictionary_encode()
    counts_NY = np.zeros((len(images.dictionary), len(VINDR28)), np.int64)
    np.add.at(counts_NY, images.indices.to_numpy(), votes_RY)
    readers_N1 = np.bincount(images.indices.to_numpy())[:, None]
    present_NY = counts_NY * 2 > readers_N1
    if source.readers == "any":
        present_NY = counts_NY > 0
        no_finding = VINDR28.index(Label.NO_FINDING)
        present_NY[:, no_finding] = counts_NY[:, no_finding] == readers_N1[:, 0]
    num_split = int(((counts_NY > 0) & (counts_NY < readers_N1)).any(1).sum())
    return images.dictionary, present_NY.astype(np.int8), num_split


def _read(path: Path, *keys: str) -> tuple[pa.Table, NDArray[np.int8]]:
    """The key columns of a table and its labels in the order of VINDR28; a blank cell counts as 0."""
    header = read_header(path)
    other = next((name for name in _OTHER if name in header), _OTHER[0])
    published = {"No Finding": "No finding", "Other disease": other}
    columns = [published.get(name, name) for name in VINDR28]
    require_version(path, {"VinDr-CXR 1.0.0": (*keys, *columns)})
    table = read_table(path, (*keys, *columns))
    require_safe_ids(path, table, "image_id")
    require_present(path, table, "image_id")
    flat = pc.fill_null(label_vectors(path, table, columns).flatten(), 0).to_numpy()
    return table.select(keys), flat.reshape(-1, len(VINDR28))
