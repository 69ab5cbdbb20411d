"""`emixer ingest` of collections whose files are damaged at random: it ends, and accounts for every row it was given.

A seed makes 200 inputs, so the fifty of `-m thorough` make ten thousand. The seed of a failure repeats it.
"""

import csv
import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from emixer.cli.main import main
from emixer.data.labels import CHEXPERT, NIH14, Label
from emixer.data.padchest_labels import PADCHEST_LABELS
from emixer.data.shards import ShardSet
from tests.data.mutations import mutated, whole_image, whole_images

NUM_IMAGES, NUM_TEXT_REPORTS, NUM_XML_REPORTS, NUM_TABLES = 108, 42, 42, 8
NUM_WHOLE = 4
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(1, 51))]
REPORT = (
    " FINAL REPORT\n\n EXAMINATION: CHEST (PA AND LAT)\n\n INDICATION: Cough, caf\xe9 worker.\n\n FINDINGS:\n\n"
    " The lungs are clear. 1. No effusion. Nodule of 2.5 mm?\n\n IMPRESSION: No acute process.\n"
)
XML = (
    '<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="CXR{0}"/><Abstract>'
    '<AbstractText Label="INDICATION">Cough &amp; fever.</AbstractText><AbstractText Label="FINDINGS">'
    'Heart size normal. Lungs are clear.</AbstractText><AbstractText Label="IMPRESSION"/></Abstract>'
    '<parentImage id="CXR{0}_IM-0001"/></eCitation>\n'
)


def invoke(*arguments: object) -> str | None:
    """What a command says when it refuses its input; None when it has done its work. Anything else is a failure."""
    result = CliRunner().invoke(main, ["ingest", *map(str, arguments), "--side-px", "32", "--min-token-count", "1"])
    if result.exit_code == 0:
        return None
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2, result.output
    assert "Error: " in result.output
    assert "Traceback" not in result.output
    return result.output


def assert_accounted_for(out: Path, num_rows: int) -> None:
    """Rows given are images in shards, images in the quarantine table, and images that the settings leave out; reports
    in the table, and images that only a mutated report names, are no rows."""
    manifest = json.loads((out / "manifest.json").read_text())
    shards = ShardSet.open(out)
    shards.verify()
    num_kept = sum(shards.num_rows(split) for split in shards.splits)
    listed = [row for row in pq.read_table(out / "quarantine.parquet").to_pylist() if not row["path"].endswith(".xml")]
    num_dropped = sum(not row["kept"] for row in listed)
    num_skipped = sum(n for reason, n in manifest["not_selected"].items() if reason != "not in the label table")
    assert num_kept + num_dropped + num_skipped == num_rows
    assert sum(split["images"] for split in manifest["splits"].values()) == num_kept


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.ray
@pytest.mark.parametrize("seed", SEEDS)
def test_of_mutated_images_and_reports_every_one_is_kept_or_listed(
    seed: int, tmp_path: Path, ray_cluster: None
) -> None:
    generator = np.random.default_rng(seed)
    whole = whole_images(seed)
    kinds = list(whole)
    metadata, splits = [("dicom_id", "subject_id", "study_id", "ViewPosition")], []
    num_mutated = NUM_IMAGES + NUM_TEXT_REPORTS
    for number in range(num_mutated + NUM_WHOLE):
        kind = kinds[number % len(kinds)]
        image, report = whole_image(kind, seed * 1000 + number), REPORT.encode()
        if number < NUM_IMAGES:
            image = mutated(image, generator, whole)
        elif number < num_mutated:
            report = mutated(report, generator, {}, is_text=True)
        subject, study, name = str(10_000_000 + number), str(50_000_000 + number), f"image-{number}"
        folder = tmp_path / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
        folder.mkdir(parents=True)
        (folder / f"{name}.jpg").write_bytes(image)
        folder.with_suffix(".txt").write_bytes(report)
        metadata.append((name, subject, study, "PA"))
        splits.append((name, study, subject, "train" if number % 5 else "test"))
    labels = [("subject_id", "study_id", *CHEXPERT), *((row[1], row[2], *["1.0"] * 14) for row in metadata[1:])]
    header = ("dicom_id", "study_id", "subject_id", "split")
    for table, rows in (("metadata", metadata), ("split", [header, *splits]), ("chexpert", labels)):
        write_table(tmp_path / f"mimic-cxr-2.0.0-{table}.csv.gz", rows)
    assert invoke("mimic-cxr", "--root", tmp_path, "--out", tmp_path / "shards") is None
    assert_accounted_for(tmp_path / "shards", num_mutated + NUM_WHOLE)


@pytest.mark.ray
@pytest.mark.parametrize("seed", SEEDS)
def test_of_mutated_xml_every_report_is_read_or_listed(seed: int, tmp_path: Path, ray_cluster: None) -> None:
    generator = np.random.default_rng(seed)
    ids = [f"CXR{number}_IM-0001" for number in range(NUM_XML_REPORTS + NUM_WHOLE)]
    (tmp_path / "images").mkdir()
    (tmp_path / "ecgen-radiology").mkdir()
    for number, image_id in enumerate(ids):
        text = XML.format(number).encode()
        text = mutated(text, generator, {}, is_text=True) if number < NUM_XML_REPORTS else text
        (tmp_path / f"ecgen-radiology/{number}.xml").write_bytes(text)
        (tmp_path / f"images/{image_id}.png").write_bytes(whole_image("png", seed * 1000 + number))
    rows = [(image_id, "train" if number % 5 else "validate", *[0] * 14) for number, image_id in enumerate(ids)]
    write_table(tmp_path / "labels.csv", [("dicom_id", "split", *(f"gold_{name}" for name in NIH14)), *rows])
    assert invoke("open-i", "--root", tmp_path, "--out", tmp_path / "shards") is None
    assert_accounted_for(tmp_path / "shards", len(ids))


def published_tables(root: Path, images: dict[str, bytes]) -> dict[str, tuple[Path, list[object]]]:
    """Small collections with images under every path that their tables name: the table to mutate, by command, and what
    the command needs beside --root."""
    names = list(images)
    labels = [[int(y == number) for y in range(14)] for number in range(len(names))]
    folder, chexpert, nih, padchest = (root / name for name in ("folder", "chexpert", "nih", "padchest"))
    report = 'FINDINGS: clear, "normal".\nIMPRESSION: caf\xe9.'
    write_table(
        folder / "labels.csv",
        [
            ("image", "subject", "report", *CHEXPERT),
            *((name, "p1", report, *y) for name, y in zip(names, labels, strict=False)),
        ],
    )
    paths = [f"{'valid' if number == 0 else 'train'}/patient{number:05d}/study1/view1_frontal.jpg" for number in
             range(len(names))]  # fmt: skip
    header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT)
    rows = [
        (f"CheXpert-v1.0/{path}", "Female", 60, "Frontal", "AP", *y) for path, y in zip(paths, labels, strict=False)
    ]
    write_table(chexpert / "valid.csv", [header, rows[0]])
    write_table(chexpert / "train.csv", [header, *rows[1:]])
    header = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Sex",
              "View Position")  # fmt: skip
    write_table(
        nih / "Data_Entry_2017_v2020.csv",
        [header, *((name, f"{NIH14[i]}|{NIH14[-1]}", 0, i, 50, "F", "PA") for i, name in enumerate(names))],
    )
    spanish = [[PADCHEST_LABELS[Label(name)][0]] for name in CHEXPERT]
    padchest_table = padchest / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    write_table(padchest_table, [
        ("", "ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Labels", "Report"),
        *((i, name, 0, f"S{i}", f"P{i}", "PA", spanish[i], "derrame peque\xf1o .") for i, name in enumerate(names)),
    ])  # fmt: skip
    for path, name in zip(paths, names, strict=True):
        for file in (folder / name, chexpert / path, nih / "images" / name, padchest / "0" / name):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(images[name])
    columns = ["--subject-column", "subject", "--report-column", "report", "--label-columns", "CHEXPERT"]
    return {
        "image-folder": (folder / "labels.csv", ["--label-csv", folder / "labels.csv", *columns]),
        "chexpert": (chexpert / "train.csv", []),
        "nih-cxr14": (nih / "Data_Entry_2017_v2020.csv", []),
        "padchest": (padchest_table, []),
    }


@pytest.mark.ray
@pytest.mark.parametrize("seed", SEEDS)
def test_a_mutated_table_is_refused_in_a_sentence_or_accounted_for(
    seed: int, tmp_path: Path, ray_cluster: None
) -> None:
    generator = np.random.default_rng(seed)
    images = {f"{number}.png": whole_image("png", seed * 1000 + number) for number in range(4)}
    tables = published_tables(tmp_path, images)
    for number in range(NUM_TABLES):
        command = list(tables)[number % len(tables)]
        table, options = tables[command]
        whole, out = table.read_bytes(), tmp_path / f"shards-{number}"
        table.write_bytes(mutated(whole, generator, images, is_text=True))
        refused = invoke(command, "--root", table.parent, "--out", out, *options)
        table.write_bytes(whole)
        if refused is None:
            manifest = json.loads((out / "manifest.json").read_text())
            without_split = sum(manifest["left_out"].get("table", {}).values())
            num_rows = manifest["images_selected"] + sum(manifest["not_selected"].values()) + without_split
            assert_accounted_for(out, num_rows)
        else:
            assert len(refused.strip().splitlines()[-1]) < 1000
