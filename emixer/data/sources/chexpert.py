"""CheXpert v1.0 (Irvin et al. 2019), small or full, as Stanford AIMI publishes it.

    train.csv, valid.csv                                             one row an image: view, 14 labels (1, 0, -1, blank)
    train/patient00001/study1/view1_frontal.jpg, valid/patient...    images

The paths in the tables begin with the name of the archive (CheXpert-v1.0-small/), which is left off. valid.csv, which
radiologists labelled, is validate; a share of train.csv's patients becomes test, since the collection's own test images
come apart from it. Reports are not part of v1.0; those of CheXpert Plus can be joined (`chexpert_plus`).
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emixer.config.ingest import ChexpertSource
from emixer.data.labels import CHEXPERT
from emixer.data.sources.chexpert_plus import reports_of
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
    SEX_EXPECTED,
    ages,
    find_table,
    label_vectors,
    read_table,
    require_unique,
    require_version,
    sexes,
    unread_cells,
)
from emixer.errors import SourceError

_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT)
_LATERAL = "LATERAL"
_PATH = r"^[^/]+/(?P<image>(?:train|valid)/(?P<subject>patient\d+)/(?P<study>study\d+)/[^/]+)$"

_ARCHIVES_OF_TRAIN = "CheXpert-v1.0 batch * (train *)"


def read_chexpert(source: ChexpertSource) -> Collection:
    """Reads both tables. Raises SourceError when they are missing or of another version."""
    paths = [find_table(source.root, name) for name in ("train.csv", "valid.csv")]
    train, valid = (_read(path) for path in paths)
    hashed = split_by_subject(train["subject"], 0.0, source.test_fraction)
    train = train.append_column("split", pa.chunked_array([hashed]))
    valid = valid.append_column("split", pa.chunked_array([pa.repeat("validate", valid.num_rows)]))
    table = pa.concat_tables([train, valid])
    table, not_selected = select_views(table, "Frontal/Lateral", source.views, keep_missing=False)
    reports = {} if source.reports is None else {"report": reports_of(source.reports, table["image"])}
    images_root, paths_of_images = _image_paths(source.root, table)
    images = image_table(
        len(CHEXPERT),
        dicom_id=table["image"],
        study_id=pc.binary_join_element_wise(table["subject"], table["study"], "/"),
        subject_id=table["subject"],
        view=pc.if_else(_is_lateral(table), pa.scalar(_LATERAL), _frontal_view(table)),
        split=table["split"],
        image_path=paths_of_images,
        labels=table["labels"],
        sex=sexes(table["Sex"]),
        age_years=_ages(table["Age"]),
        **reports,
    )
    require_images(images, source.root, not_selected)
    require_disjoint_subjects(images, source.root)
    return Collection(
        source="chexpert",
        images=images,
        label_names=CHEXPERT,
        images_root=images_root,
        has_reports=source.reports is not None,
        not_selected=not_selected,
        remarks=unread_cells("Sex", SEX_EXPECTED, table["Sex"], images["sex"])
        | unread_cells("Age", f"{AGE_EXPECTED}, and not 0", table["Age"], images["age_years"]),
    )


def _image_paths(root: Path, table: pa.Table) -> tuple[Path, pa.ChunkedArray]:
    """Where images are, and their paths from there: below the tables, or as the four archives of the full size unpack,
    patients of train in `CheXpert-v1.0 batch 2 (train 1)` and two more folders beside that of the tables."""
    archives = sorted(root.absolute().parent.glob(_ARCHIVES_OF_TRAIN))
    if (root / "train").exists() or not archives:
        return root, table["image"]
    folder_of = {patient.name: folder.name for folder in archives for patient in folder.iterdir()}
    home = root.absolute().name
    images, subjects = table["image"].to_pylist(), table["subject"].to_pylist()
    paths = [
        f"{folder_of[subject]}/{image.removeprefix('train/')}"
        if image.startswith("train/") and subject in folder_of
        else f"{home}/{image}"
        for image, subject in zip(images, subjects, strict=True)
    ]
    return root.absolute().parent, pa.chunked_array([pa.array(paths, pa.string())])


def _ages(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Years; null for 0, which the loader of torchxrayvision takes for unknown as well."""
    years = ages(texts)
    return pc.if_else(pc.equal(years, 0), pa.scalar(None, years.type), years)


def _is_lateral(table: pa.Table) -> pa.ChunkedArray:
    """The column AP/PA is blank there."""
    return pc.equal(pc.utf8_lower(table["Frontal/Lateral"]), "lateral")


def _frontal_view(table: pa.Table) -> pa.ChunkedArray:
    """AP or PA. The published table calls 17 frontal images LL or RL, which are lateral views elsewhere."""
    named = table["AP/PA"]
    return pc.if_else(pc.is_in(named, value_set=pa.array(["AP", "PA"])), named, pa.scalar(None, pa.string()))


def _read(path: Path) -> pa.Table:
    """What a table says of its images beside labels, what its paths say, and the label vectors."""
    require_version(path, {"CheXpert-v1.0": _COLUMNS})
    table = read_table(path, _COLUMNS)
    require_unique(path, table, "Path")
    parts = pc.extract_regex(table["Path"], _PATH).combine_chunks()
    if parts.null_count:
        raise SourceError(
            f"{path}: {parts.null_count:,} paths are not as in CheXpert v1.0. "
            "Expected e.g. CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg."
        )
    views = table.select(["Frontal/Lateral", "AP/PA", "Sex", "Age"]).combine_chunks()
    for name in ("image", "subject", "study"):
        views = views.append_column(name, pa.chunked_array([pc.struct_field(parts, name)]))
    return views.append_column("labels", pa.chunked_array([label_vectors(path, table, CHEXPERT)]))
