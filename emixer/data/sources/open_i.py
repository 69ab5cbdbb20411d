"""The Indiana University collection (Open-i): one XML report a study, images by image id, optionally gold labels.

    ecgen-radiology/<n>.xml      sections of the report, and the image ids of its images
    images/<image id>.png|jpg    images, frontal and lateral
    labels.csv                   dicom_id, gold_<finding> of the 14 NIH findings, optionally split and view

The collection names no view and no patient: a study counts as a patient. With a label table only the images it lists
are read, and of these the views that are asked for where it names them; without one all are.
"""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from emixer.config.ingest import OpenISource
from emixer.data.labels import NIH14
from emixer.data.schema import SPLITS
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
    label_vectors,
    read_header,
    read_table,
    require_columns,
    require_file,
    require_one_of,
    require_safe_ids,
    require_unique,
)
from emixer.errors import SourceError
from emixer.files import NotRegularError, read_regular

_SUFFIXES = (".png", ".jpg", ".jpeg")
_GOLD = "gold_"
_GOLD_NORMAL = "gold_normal"


@dataclass(frozen=True)
class _Study:
    study_id: str
    report: str
    image_ids: tuple[str, ...]


@dataclass(frozen=True)
class _Listed:
    """The label table: columns dicom_id, optionally study_id, split, view; and a label vector for each row, or null."""

    table: pa.Table
    labels: pa.Array


def read_open_i(source: OpenISource) -> Collection:
    """Reads all reports and the label table. Raises SourceError when the layout is not that of the collection."""
    for folder in ("ecgen-radiology", "images"):
        if not (source.root / folder).is_dir():
            raise SourceError(f"{source.root} holds no folder `{folder}`. Expected ecgen-radiology/*.xml and images/.")
    studies, left_out = _read_studies(source.root)
    listed = _read_labels(source)
    study_of = {image_id: study for study in studies for image_id in study.image_ids}
    ids = listed.table["dicom_id"].to_pylist() if listed else sorted(study_of)
    images = _image_table(source, ids, study_of, listed)
    num_skipped = len(study_of.keys() - set(ids))
    not_selected = {"not in the label table": num_skipped} if num_skipped else {}
    if source.views:
        if images["view"].null_count == images.num_rows:
            raise SourceError(
                f"ingest.source.views={','.join(source.views)}, but the collection does not record views. Give a label "
                "CSV with a column `view`, or unset ingest.source.views."
            )
        images, of_other_views = select_views(images, "view", source.views, keep_missing=False)
        not_selected |= of_other_views
    require_images(images, source.root, not_selected)
    require_disjoint_subjects(images, source.root)
    with_image = set(images["study_id"].to_pylist())
    return Collection(
        source="open-i",
        images=images,
        label_names=NIH14,
        images_root=source.root,
        has_reports=True,
        not_selected=not_selected,
        left_out=left_out,
        remarks={"reports without a selected image": sum(study.study_id not in with_image for study in studies)},
    )


def _read_studies(root: Path) -> tuple[list[_Study], tuple[LeftOut, ...]]:
    studies: list[_Study] = []
    left_out: list[LeftOut] = []
    owners: dict[str, Path] = {}
    for path in sorted((root / "ecgen-radiology").glob("*.xml")):
        try:
            study = _parse(path)
        except NotRegularError:
            left_out.append(LeftOut(path.relative_to(root).as_posix(), "report", "report is not a regular file"))
            continue
        except (ElementTree.ParseError, LookupError, ValueError, OSError):  # the middle two: of encodings
            left_out.append(LeftOut(path.relative_to(root).as_posix(), "report", "report is not well-formed XML"))
            continue
        for key in (study.study_id, *study.image_ids):
            if owners.setdefault(key, path) != path:
                raise SourceError(
                    f"{owners[key]} and {path} claim the same study or image. Each belongs to one report."
                )
        studies.append(study)
    if not studies:
        raise SourceError(f"{root / 'ecgen-radiology'} holds no report (*.xml) that can be read.")
    return studies, tuple(left_out)


def _parse(path: Path) -> _Study:
    """One report, its sections under headers of their own, so that the section rule of all sources applies."""
    tree = ElementTree.fromstring(read_regular(path))  # noqa: S314 - files of the collection; expat refuses entity bombs
    identity = tree.find("uId")
    study_id = identity.get("id", path.stem) if identity is not None else path.stem
    sections = [
        f"{section.get('Label', '')}:\n{''.join(section.itertext())}"
        for section in tree.iter("AbstractText")
        if "".join(section.itertext()).strip()
    ]
    image_ids = tuple(image.get("id", "") for image in tree.iter("parentImage"))
    return _Study(study_id, "\n\n".join(sections), image_ids)


def _read_labels(source: OpenISource) -> _Listed | None:
    path = source.label_csv or source.root / "labels.csv"
    if source.label_csv is not None:
        require_file(path, "ingest.source.label_csv")
    elif not path.exists():
        return None
    header = read_header(path)
    gold = [name for name in header if name.startswith(_GOLD)]
    expected = [_GOLD + name for name in NIH14]
    if gold:
        require_columns(path, header, expected)
    unknown = [name for name in gold if name not in (*expected, _GOLD_NORMAL)]
    if unknown:
        raise SourceError(f"{path} has an unknown column {unknown[0]!r}. Gold labels are {', '.join(expected)}.")
    table = read_table(path, ("dicom_id",), ("study_id", "split", "view", *expected))
    require_safe_ids(path, table, "dicom_id")
    require_unique(path, table, "dicom_id")
    if "split" in table.column_names:
        require_one_of(path, table, "split", SPLITS)
    nulls = pa.nulls(table.num_rows, pa.list_(pa.int8(), len(NIH14)))
    return _Listed(table, label_vectors(path, table, expected) if gold else nulls)


def _image_table(source: OpenISource, ids: list[str], study_of: dict[str, _Study], listed: _Listed | None) -> pa.Table:
    nothing = pa.nulls(len(ids), pa.string())
    table = listed.table if listed else pa.table({"dicom_id": pa.array(ids, pa.string())})
    given = {name: table[name] if name in table.column_names else nothing for name in ("study_id", "split", "view")}
    named = pa.array([study_of[i].study_id if i in study_of else None for i in ids], pa.string())
    study_ids = pc.coalesce(pa.chunked_array([named]), given["study_id"], table["dicom_id"])
    by_hash = split_by_subject(study_ids, source.validate_fraction, source.test_fraction)
    files = {p.stem: p.name for p in (source.root / "images").iterdir() if p.suffix.lower() in _SUFFIXES}
    return image_table(
        len(NIH14),
        dicom_id=table["dicom_id"],
        study_id=study_ids,
        subject_id=study_ids,
        view=given["view"],
        split=pc.coalesce(given["split"], by_hash),
        image_path=pa.array([f"images/{files.get(i, i + _SUFFIXES[0])}" for i in ids], pa.string()),
        report=pa.array([study_of[i].report if i in study_of else None for i in ids], pa.string()),
        labels=listed.labels if listed else pa.nulls(len(ids), pa.list_(pa.int8(), len(NIH14))),
    )
