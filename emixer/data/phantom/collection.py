"""Writes a phantom collection in the layout of a published one: studies in blocks, then the tables.

Layouts: docs/phantom.md. In those of MIMIC-CXR a study's folder is renamed into place when all its files are whole, so
its presence means that it is finished; in the others each image is renamed by itself. A block's factor rows under
`.phantom/` say that all its studies are. The tables come last and are made of those rows, block after block, so memory
does not grow with the collection.
"""

import csv
import gzip
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emixer.data.phantom.damage import IMAGE_DAMAGES, Damage, broken_image, broken_report, damaged_studies
from emixer.data.phantom.factors import SCHEMA, factor_row
from emixer.data.phantom.layouts import LAYOUTS, Layout, Row
from emixer.data.phantom.study import ImagePlan, Settings, Study, make_study
from emixer.data.row_group_writer import RowGroupWriter
from emixer.errors import RunFolderError
from emixer.files import is_bookkeeping, is_partial, remove_partials, sha256_of, write_bytes, write_json, written_aside

FACTORS = "factors.parquet"
BROKEN = "broken.csv"
CHECKSUMS = "SHA256SUMS.txt"
RECORD = "phantom.json"
DRAWING_VERSION = 2
"""Changes whenever the same seed would give other bytes."""

_STATE = ".phantom"
_BLOCK = re.compile(r"studies-(\d{8})-(\d{8})\.parquet")
_ROW_GROUP = 4096
_BLOCK_SCHEMA = pa.schema([*SCHEMA, ("findings", pa.string()), ("impression", pa.string())])
"""Factors, and what of a report tables may hold."""
_README = """This is a phantom: procedurally drawn chest images with matching reports, laid out like {title}.
No patient, no real image and no real report went into it. Made by `emixer phantom`; the settings stand in phantom.json,
the truth behind each image in factors.parquet. Dedicated to the public domain (CC0 1.0).
"""


@dataclass(frozen=True)
class PhantomCollection:
    """What is to be written where."""

    out: Path
    studies: int
    settings: Settings
    broken_files: int = 0
    layout: str = "mimic-cxr-jpg"
    """A key of LAYOUTS."""

    def record(self) -> dict[str, Any]:
        """What decides every byte of the collection; stands in phantom.json."""
        return {
            "studies": self.studies,
            **asdict(self.settings),
            "broken_files": self.broken_files,
            "layout": self.layout,
            "drawing_version": DRAWING_VERSION,
            "layout_version": LAYOUTS[self.layout].version,
        }

    def is_complete(self) -> bool:
        """True when a run with the same settings has finished here.

        Raises RunFolderError when the folder holds anything else than a phantom of these settings.
        """
        record = _read_record(self.out)
        if record is None:
            return False
        complete = record.pop("complete")
        if record != self.record():
            theirs = {k: v for k, v in record.items() if self.record().get(k) != v}
            raise RunFolderError(
                f"{self.out} has a phantom made with other settings ({_listed(theirs)}); requested were "
                f"{_listed({k: self.record().get(k) for k in theirs})}. Choose another folder, or delete this one."
            )
        return bool(complete)

    def unfinished(self, studies_per_block: int) -> list[tuple[int, int]]:
        """Ranges [start, stop) of studies that no finished block covers, at most `studies_per_block` long."""
        ranges, position = [], 0
        for start, stop, _ in [*_blocks(self.out), (self.studies, self.studies, None)]:
            ranges += [(a, min(a + studies_per_block, start)) for a in range(position, start, studies_per_block)]
            position = stop
        return ranges

    def begin(self) -> None:
        """Marks the folder as ours before anything is written."""
        write_json(self.out / RECORD, {**self.record(), "complete": False})
        (self.out / _STATE).mkdir(exist_ok=True)


def write_block(collection: PhantomCollection, start: int, stop: int) -> int:
    """Writes the studies [start, stop) and the record that they are finished; returns the number of images.

    Studies whose folder is already there are kept. Raises StorageError when the disk is full.
    """
    _keep_freed_memory()
    damages = dict(damaged_studies(collection.studies, collection.broken_files))
    layout = LAYOUTS[collection.layout]
    rows: list[dict[str, Any]] = []
    sums: list[dict[str, str]] = []
    for index in range(start, stop):
        study = make_study(collection.settings, index)
        damage = damages.get(index)
        sections = {"findings": study.report.findings, "impression": study.report.impression}
        taken = []
        for number, image in enumerate(study.images):
            hurt = damage if number == 0 or damage not in IMAGE_DAMAGES else None
            if layout.laterals or image.projection != "LATERAL":
                taken.append((image, {**factor_row(study, image, hurt), **sections}))
        write = _write_study if layout.has_report_files else _write_images
        sums += write(collection.out, study, taken, damage, layout)
        rows += [row for _, row in taken]
    path = collection.out / _STATE / f"studies-{start:08d}-{stop:08d}.parquet"
    with written_aside(path) as aside:
        table = pa.Table.from_pylist(rows, schema=_BLOCK_SCHEMA.with_metadata({"sums": json.dumps(sums)}))
        pq.write_table(table, aside)
    return len(rows)


def _keep_freed_memory() -> None:
    """Frees one large block, upon which glibc stops handing memory back to the system after every full-size plane.

    Without it a third of an image's time goes into page faults. Elsewhere it does nothing.
    """
    np.ones(31 * 2**20, dtype=np.uint8)


def finish(collection: PhantomCollection) -> None:
    """Writes the tables, factors and checksums from the blocks, and removes the blocks."""
    out = collection.out
    write_bytes(out / "README.txt", _README.format(title=LAYOUTS[collection.layout].title).encode())
    for each in LAYOUTS[collection.layout].tables(lambda: _rows(out)):
        _write_csv(out / each.name, each.header, each.rows)
    for name, content in LAYOUTS[collection.layout].documents(lambda: _rows(out)):
        write_json(out / name, content)
    if collection.broken_files:
        _write_csv(out / BROKEN, ("path", "damage"), _broken_rows(_rows(out), LAYOUTS[collection.layout]))
    _write_factors(out / FACTORS, _tables(out))
    with written_aside(out / CHECKSUMS) as aside, aside.open("w", encoding="utf-8") as file:
        for line in _checksum_lines(collection):
            file.write(line)
    _remove_all_partials(out)
    write_json(out / RECORD, {**collection.record(), "complete": True})
    shutil.rmtree(out / _STATE)


def _remove_all_partials(out: Path) -> None:
    """In the folders of all patients too, where killed tasks were writing."""
    for folder, subfolders, names in os.walk(out):
        if any(is_partial(Path(name)) for name in (*subfolders, *names)):
            remove_partials(Path(folder))


def _read_record(out: Path) -> dict[str, Any] | None:
    """phantom.json of a folder; None for a folder that is missing or empty."""
    try:
        record: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
        record = {"layout": "mimic-cxr-jpg", "layout_version": 1, **record}  # there was no other one
    except FileNotFoundError:
        if out.is_dir() and any(not is_bookkeeping(path) for path in out.iterdir()):
            raise RunFolderError(
                f"{out} is not empty and not a phantom (no {RECORD}). Choose an empty or new folder."
            ) from None
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{out / RECORD} cannot be read ({error}). Choose another folder, or delete this one."
        ) from error
    return record


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "nothing else"


_Taken = Sequence[tuple[ImagePlan, Row]]
"""The images of a study that the layout has, with their factors."""


def _write_study(out: Path, study: Study, taken: _Taken, damage: Damage | None, layout: Layout) -> list[dict[str, str]]:
    """Report and images of one study in a folder of its own; returns path and checksum of each file."""
    home = out / study.identity.folder
    folder, report = home / f"s{study.identity.study_id}", home / f"s{study.identity.study_id}.txt"
    if not folder.is_dir():
        content = broken_report(study.report.text, damage)
        if content is not None:
            write_bytes(report, content)
        with written_aside(folder) as aside:
            aside.mkdir()
            for path, image in _encoded(study, taken, damage, layout):
                (aside / Path(path).name).write_bytes(image)
    return [_sum(out, path) for path in [*sorted(folder.iterdir()), *([report] if report.exists() else [])]]


def _write_images(
    out: Path, study: Study, taken: _Taken, damage: Damage | None, layout: Layout
) -> list[dict[str, str]]:
    """The images of one study, each by itself; returns path and checksum of each file."""
    paths = [out / layout.image_path(row) for _, row in taken]
    if not all(path.exists() for path in paths):
        for path, image in _encoded(study, taken, damage, layout):
            write_bytes(out / path, image)
    return [_sum(out, path) for path in paths]


def _encoded(study: Study, taken: _Taken, damage: Damage | None, layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each image."""
    contents: dict[str, bytes] = {}
    for image, row in taken:
        if image.duplicate_of:
            content = contents[image.duplicate_of]
        else:
            pixels = study.render(image)
            content = contents[image.dicom_id] = layout.encode(pixels, row)
            content = broken_image(content, pixels, damage) if image.number == 0 else content
        yield layout.image_path(row), content


def _sum(out: Path, path: Path) -> dict[str, str]:
    return {"path": str(path.relative_to(out)), "sha256": sha256_of(path)}


def _blocks(out: Path) -> Iterator[tuple[int, int, Path]]:
    """Finished blocks in order: start, stop, file."""
    for path in sorted((out / _STATE).glob("studies-*.parquet")):
        match = _BLOCK.fullmatch(path.name)
        if match:
            yield int(match[1]), int(match[2]), path


def _tables(out: Path) -> Iterator[pa.Table]:
    for _, _, path in _blocks(out):
        yield pq.read_table(path)


def _rows(out: Path) -> Iterator[dict[str, Any]]:
    for block in _tables(out):
        yield from block.to_pylist()


def _broken_rows(rows: Iterable[dict[str, Any]], layout: Layout) -> Iterator[tuple[str, str]]:
    """The file that each damage concerns; once a study."""
    seen: set[str] = set()
    for row in rows:
        if row["damage"] is None or row["study_id"] in seen:
            continue
        seen.add(row["study_id"])
        home = f"files/p{row['subject_id'][:2]}/p{row['subject_id']}/s{row['study_id']}"
        is_image = row["damage"] in {str(damage) for damage in IMAGE_DAMAGES}
        yield layout.image_path(row) if is_image else f"{home}.txt", row["damage"]


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    with written_aside(path) as aside, _text(aside, compressed=path.suffix == ".gz") as file:
        writer = csv.writer(file, lineterminator="\n")
        if header:
            writer.writerow(header)
        writer.writerows(rows)


@contextmanager
def _text(path: Path, *, compressed: bool) -> Iterator[TextIO]:
    """A text file to write; gzip without the name and time that would make equal tables differ."""
    with path.open("wb") as raw:
        if not compressed:
            with io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
                yield file
            return
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="") as file,
        ):
            yield file


def _write_factors(path: Path, tables: Iterable[pa.Table]) -> None:
    """Row groups of a fixed size, whatever the blocks were."""
    with written_aside(path) as aside, pq.ParquetWriter(aside, SCHEMA) as parquet:
        writer = RowGroupWriter(parquet, _ROW_GROUP)
        for block in tables:
            writer.write(block)
        writer.finish()


def _checksum_lines(collection: PhantomCollection) -> Iterator[str]:
    for _, _, path in _blocks(collection.out):
        for entry in json.loads(pq.read_schema(path).metadata[b"sums"]):
            yield f"{entry['sha256']}  {entry['path']}\n"
    layout = LAYOUTS[collection.layout]
    tables = (each.name for each in layout.tables(lambda: iter(())))
    documents = (name for name, _ in layout.documents(lambda: iter(())))
    for name in (*tables, *documents, FACTORS):
        yield f"{sha256_of(collection.out / name)}  {name}\n"
