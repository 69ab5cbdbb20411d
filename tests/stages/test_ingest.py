"""`emixer ingest` through the command line, on small collections with everything that is wrong with real ones."""

import contextlib
import csv
import gzip
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from emixer.cli.main import main
from emixer.config import load_config
from emixer.data.assemble_shard import ShardAssembler
from emixer.data.ingest import _decode, _judge, decoder_of, plan_ingest
from emixer.data.labels import CHEXPERT
from emixer.data.selection import decide
from emixer.data.shards import ShardSet
from emixer.files import alone_in, sha256_of

LABEL_ROW = ",".join(["1.0", "0.0", "-1.0", *[""] * 11])
REPORT = " FINAL REPORT\n\n FINDINGS:\n\n Secretword lungs are clear. Heart is normal.\n\n IMPRESSION: Fine.\n"


def image(seed: int, height: int = 48, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "JPEG") -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


class MimicTree:
    """A collection in the MIMIC-CXR layout, one study per subject unless stated otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[tuple[str, str, str, str, str]] = []
        self.label_rows: dict[str, str] = {}

    def add(
        self,
        number: int,
        content: bytes | None,
        *,
        split: str = "train",
        view: str = "PA",
        report: str | bytes | None = REPORT,
        labels: str | None = LABEL_ROW,
        dicom_id: str | None = None,
    ) -> str:
        """Add one image; return its path relative to the root."""
        subject, study = f"1000{number:04d}", f"5000{number:04d}"
        dicom_id = dicom_id or f"image-{number:04d}"
        folder = self.root / f"files/p{subject[:2]}/p{subject}/s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{dicom_id}.jpg"
        if content is not None:
            path.write_bytes(content)
        if report is not None:
            folder.with_suffix(".txt").write_bytes(report.encode() if isinstance(report, str) else report)
        self.images.append((dicom_id, subject, study, view, split))
        if labels is not None:
            self.label_rows[study] = f"{subject},{study},{labels}"
        return path.relative_to(self.root).as_posix()

    def write_tables(self) -> None:
        metadata = ["dicom_id,subject_id,study_id,ViewPosition,Rows"]
        metadata += [f"{d},{s},{t},{v},3000" for d, s, t, v, _ in self.images]
        splits = ["dicom_id,study_id,subject_id,split", *(f"{d},{t},{s},{x}" for d, s, t, _, x in self.images)]
        labels = [",".join(("subject_id", "study_id", *CHEXPERT)), *self.label_rows.values()]
        for name, lines in (("metadata", metadata), ("split", splits), ("chexpert", labels)):
            self.write_table(name, lines)

    def write_table(self, name: str, lines: list[str]) -> None:
        content = "".join(f"{line}\n" for line in lines).encode()
        (self.root / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(content))

    def read_table(self, name: str) -> list[str]:
        return gzip.decompress((self.root / f"mimic-cxr-2.0.0-{name}.csv.gz").read_bytes()).decode().splitlines()


def good_tree(root: Path, num_images: int = 12) -> MimicTree:
    tree = MimicTree(root)
    for number in range(num_images):
        tree.add(number, encoded(image(number)), split=("train", "train", "train", "validate", "test")[number % 5])
    tree.write_tables()
    return tree


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["ingest", *map(str, arguments)])


def ingest(root: Path, out: Path, *more: object) -> Result:
    return invoke("mimic-cxr", "--root", root, "--out", out, "--side-px", 32, *more)


def fails(result: Result) -> str:
    """Return the error message; check that it is one paragraph, names no patient and quotes no report."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.output.splitlines() if " images/" not in line]  # min or s, depending on load
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    assert "1000" not in result.output
    assert "Secretword" not in result.output
    return lines[0]


def rows_of(out: Path, split: str) -> dict[str, dict[str, Any]]:
    rows = [row for path in ShardSet.open(out).files(split) for row in pq.read_table(path).to_pylist()]
    return {row["dicom_id"]: row for row in rows}


def quarantine_of(out: Path) -> dict[str, tuple[str, str]]:
    return {row["path"]: (row["stage"], row["reason"]) for row in pq.read_table(out / "quarantine.parquet").to_pylist()}


# ---------------------------------------------------------------- an untidy collection, ingested once


@pytest.fixture(scope="module")
def untidy(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> dict[str, Any]:
    """The result of ingesting a collection with all kinds of bad images and reports."""
    folder = tmp_path_factory.mktemp("untidy")
    tree = MimicTree(folder / "source")
    good = encoded(image(1))
    paths = {
        "good": tree.add(1, good),
        "second image": tree.add(1, encoded(image(101)), dicom_id="image-0001b", view="AP"),
        "truncated": tree.add(2, encoded(image(2))[:600]),
        "not an image": tree.add(3, b"<html>404</html>"),
        "empty": tree.add(4, b""),
        "missing": tree.add(5, None),
        "uniform": tree.add(6, encoded(np.full((48, 40), 9, np.uint8))),
        "16 bit": tree.add(7, encoded(image(7).astype(np.uint16) * 16, "PNG")),
        "rgb": tree.add(8, encoded(np.dstack([image(8)] * 3))),
        "test": tree.add(9, encoded(image(9)), split="test"),
        "copy of test": tree.add(10, encoded(image(9))),
        "copy in train": tree.add(11, encoded(image(8), "PNG")),
        "no report": tree.add(12, encoded(image(12)), report=None),
        "no findings": tree.add(13, encoded(image(13)), report="INDICATION: Secretword cough.\n"),
        "latin-1": tree.add(14, encoded(image(14)), report="FINDINGS: Secretword caf\xe9.".encode("latin-1")),
        "empty report": tree.add(15, encoded(image(15)), report=""),
        "impression": tree.add(16, encoded(image(16)), report="IMPRESSION: Only this."),
        "no labels": tree.add(17, encoded(image(17)), labels=None, split="validate"),
    }
    paths |= {name: tree.add(number, None) for number, name in ((20, "pipe"), (21, "socket"), (22, "folder"))}
    paths["device"] = tree.add(23, None)
    paths["report is a pipe"] = tree.add(24, encoded(image(24)), report=None)
    os.mkfifo(tree.root / paths["pipe"])
    with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir((tree.root / paths["socket"]).parent):
        bound.bind(Path(paths["socket"]).name)  # the whole path may exceed the 107 bytes of a socket
    (tree.root / paths["folder"]).mkdir()
    (tree.root / paths["device"]).symlink_to("/dev/zero")
    os.mkfifo((tree.root / paths["report is a pipe"]).parent.with_suffix(".txt"))
    tree.add(18, encoded(image(18)), view="LATERAL")
    tree.add(19, encoded(image(19)), view="")
    shutil.copy(tree.root / paths["rgb"], tree.root / paths["copy in train"])
    tree.write_tables()
    out = folder / "shards"
    result = ingest(tree.root, out, "--min-token-count", 2)
    assert result.exit_code == 0, result.output
    return {"root": tree.root, "out": out, "paths": paths, "output": result.output}


@pytest.mark.ray
@pytest.mark.parametrize(
    ("image_name", "stage", "reason"),
    [
        ("truncated", "image", "image is damaged or cut short"),
        ("not an image", "image", "file is not an image"),
        ("empty", "image", "file is empty"),
        ("missing", "image", "file is missing"),
        ("uniform", "image", "image is one uniform value"),
        ("copy of test", "duplicate", "same pixels as another image, which is in test"),
        ("copy in train", "duplicate", "same pixels as another image, which is in train"),
        ("no report", "report", "report is missing"),
        ("no findings", "report", "report without findings"),
        ("latin-1", "report", "report is not UTF-8"),
        ("empty report", "report", "report is empty"),
        ("pipe", "image", "not a regular file (pipe)"),
        ("socket", "image", "not a regular file (socket)"),
        ("folder", "image", "not a regular file (folder)"),
        ("device", "image", "not a regular file (device)"),
        ("report is a pipe", "report", "report is not a regular file"),
    ],
)
def test_bad_files_are_quarantined_with_the_reason(
    untidy: dict[str, Any], image_name: str, stage: str, reason: str
) -> None:
    assert quarantine_of(untidy["out"])[untidy["paths"][image_name]] == (stage, reason)


@pytest.mark.ray
def test_every_selected_image_is_either_in_the_shards_or_in_quarantine(untidy: dict[str, Any]) -> None:
    kept = {name for split in ("train", "validate", "test") for name in rows_of(untidy["out"], split)}
    left_out = {Path(path).stem for path in quarantine_of(untidy["out"])}
    assert kept & left_out == set()
    assert kept | left_out == {Path(path).stem for path in untidy["paths"].values()}
    assert kept == {"image-0001", "image-0001b", "image-0007", "image-0008", "image-0009", "image-0016", "image-0017"}


@pytest.mark.ray
def test_row_holds_the_image_its_findings_and_its_labels(untidy: dict[str, Any]) -> None:
    row = rows_of(untidy["out"], "train")["image-0001b"]
    assert row["report"] == "Secretword lungs are clear. Heart is normal."
    assert row["sentences"] == [["secretword", "lungs", "are", "clear"], ["heart", "is", "normal"]]
    assert row["labels"] == [1, 0, -1, *[None] * 11]
    assert (row["study_id"], row["subject_id"], row["view"]) == ("50000001", "10000001", "AP")
    assert (row["split"], row["source"], len(row["image"])) == ("train", "mimic-cxr", 32 * 32)


@pytest.mark.ray
def test_missing_labels_are_null_and_impressions_replace_missing_findings(untidy: dict[str, Any]) -> None:
    assert rows_of(untidy["out"], "validate")["image-0017"]["labels"] is None
    assert rows_of(untidy["out"], "train")["image-0016"]["report"] == "Only this."


@pytest.mark.ray
def test_sixteen_bit_images_keep_their_contrast(untidy: dict[str, Any]) -> None:
    pixels = np.frombuffer(rows_of(untidy["out"], "train")["image-0007"]["image"], np.uint8)
    eight_bit = np.frombuffer(rows_of(untidy["out"], "train")["image-0001"]["image"], np.uint8)
    assert abs(float(pixels.std()) - float(eight_bit.std())) < 10


@pytest.mark.ray
def test_vocabulary_counts_each_training_report_once(untidy: dict[str, Any]) -> None:
    vocabulary = ShardSet.open(untidy["out"]).vocabulary
    # the same report for studies 1 (two images), 7 and 8; "only this" occurs once and is left out
    assert dict(zip(vocabulary.tokens[4:], vocabulary.counts[4:], strict=True)) == {
        "are": 3, "clear": 3, "heart": 3, "is": 3, "lungs": 3, "normal": 3, "secretword": 3,
    }  # fmt: skip


@pytest.mark.ray
def test_manifest_counts(untidy: dict[str, Any]) -> None:
    manifest = json.loads((untidy["out"] / "manifest.json").read_text())
    assert manifest["images_selected"] == 23
    assert {split: counts["images"] for split, counts in manifest["splits"].items()} == {
        "train": 5, "validate": 1, "test": 1,
    }  # fmt: skip
    assert manifest["splits"]["train"]["studies"] == 4
    assert manifest["labels"]["train"]["names"]["Consolidation"] == {
        "present": 0, "absent": 0, "uncertain": 5, "not_mentioned": 0,
    }  # fmt: skip
    assert manifest["labels"]["validate"]["unlabelled_images"] == 1
    assert manifest["reports"]["train"] == {"findings section": 4, "impression section": 1}
    assert manifest["not_selected"] == {"of view LATERAL": 1, "of view not given": 1}
    assert sum(sum(reasons.values()) for reasons in manifest["left_out"].values()) == 16
    assert "0.5 % of pixels lie below and above" in manifest["gray_range_rules"][0]
    ShardSet.open(untidy["out"]).verify()


@pytest.mark.ray
def test_outputs_quote_no_report_and_name_no_patient(untidy: dict[str, Any]) -> None:
    assert "Secretword" not in untidy["output"]
    assert "1000" not in untidy["output"]
    for name in ("manifest.json", "quarantine.parquet"):
        assert b"ecretword" not in (untidy["out"] / name).read_bytes()


@pytest.mark.ray
def test_images_without_a_usable_report_can_be_kept(untidy: dict[str, Any], tmp_path: Path) -> None:
    result = ingest(untidy["root"], tmp_path / "out", "--missing-findings", "keep-without-report")
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "out", "train")
    assert {name for name, row in rows.items() if row["report"] is None} == {
        f"image-{n:04d}" for n in (12, 13, 14, 15, 16, 24)
    }
    listed = quarantine_of(tmp_path / "out")[untidy["paths"]["latin-1"]]
    assert listed == ("report", "report is not UTF-8; image kept without it")


# ---------------------------------------------------------------- resuming, and doing nothing twice


def stamps(out: Path) -> dict[str, tuple[int, str]]:
    return {path.name: (path.stat().st_mtime_ns, sha256_of(path)) for path in sorted(out.glob("*.parquet"))}


@pytest.mark.ray
def test_finished_ingest_run_again_writes_no_shard(tmp_path: Path, ray_cluster: None) -> None:
    tree, out = good_tree(tmp_path / "source"), tmp_path / "out"
    assert ingest(tree.root, out, "--rows-per-shard", 4).exit_code == 0
    before = {name: stamp for name, stamp in stamps(out).items() if name != "quarantine.parquet"}
    again = ingest(tree.root, out, "--rows-per-shard", 4)
    assert "Already complete; nothing was written" in again.output
    told = json.loads(ingest(tree.root, out, "--rows-per-shard", 4, "--json").stdout)
    assert told["outcome"] == "nothing to do"
    assert {name: stamps(out)[name] for name in before} == before
    assert len(before) == 4


@pytest.mark.ray
def test_interrupted_ingest_resumes_to_identical_bytes(tmp_path: Path, ray_cluster: None) -> None:
    tree, whole, broken = good_tree(tmp_path / "source"), tmp_path / "whole", tmp_path / "broken"
    for out in (whole, broken):
        assert ingest(tree.root, out, "--rows-per-shard", 3).exit_code == 0
    (broken / "manifest.json").unlink()
    (broken / "train-00001.parquet").unlink()  # killed before the rename
    (broken / ".partial-train-00001.parquet-0000").write_bytes(b"half a shard")
    damaged = broken / "train-00000.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    untouched = stamps(broken)["test-00000.parquet"]

    result = ingest(tree.root, broken, "--rows-per-shard", 3)
    assert result.exit_code == 0, result.output
    assert "Decoded 6 images" in result.output
    assert {n: digest for n, (_, digest) in stamps(broken).items()} == {n: d for n, (_, d) in stamps(whole).items()}
    assert (broken / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert stamps(broken)["test-00000.parquet"] == untouched
    assert not list(broken.glob(".partial*"))


@pytest.mark.ray
def test_killed_ingest_leaves_no_partial_shard_and_resumes(tmp_path: Path, ray_cluster: None) -> None:
    """Stop between the phases, as a kill would: the blocks exist, no shard does."""
    tree, out = good_tree(tmp_path / "source"), tmp_path / "out"
    config = load_config(
        extra={
            "ingest.source.kind": "mimic-cxr",
            "ingest.source.root": tree.root,
            "ingest.out": out,
            "ingest.side_px": 32,
        }
    )
    planned = plan_ingest(config)
    with planned.workspace.opened(planned.plan):
        _decode(planned, planned.plan.shards[:1])
    result = ingest(tree.root, out)
    assert result.exit_code == 0, result.output
    assert "Decoded 4 images" in result.output  # the train block existed
    assert ShardSet.open(out).num_rows("train") == 8


@pytest.mark.ray
def test_a_shard_that_is_whole_is_not_assembled_again_without_its_blocks(tmp_path: Path, ray_cluster: None) -> None:
    """Ray runs a task again whose node died after the work and before the answer."""
    settings = {"ingest.source.kind": "mimic-cxr", "ingest.source.root": good_tree(tmp_path / "source").root}
    planned = plan_ingest(load_config(extra={**settings, "ingest.out": tmp_path / "out", "ingest.side_px": 32}))
    with planned.workspace.opened(planned.plan) as plan:
        _decode(planned, plan.shards)
        _judge(planned)
        assembler = ShardAssembler.of(plan, planned.workspace)
        assert assembler.assemble(0) == assembler.assemble(0) > 0


@pytest.mark.ray
def test_ingest_killed_when_all_was_decoded_says_that_it_wrote_the_rest(tmp_path: Path, ray_cluster: None) -> None:
    tree, out = good_tree(tmp_path / "source"), tmp_path / "out"
    settings = {"ingest.source.kind": "mimic-cxr", "ingest.source.root": tree.root, "ingest.out": out}
    planned = plan_ingest(load_config(extra={**settings, "ingest.side_px": 32}))
    with planned.workspace.opened(planned.plan):
        _decode(planned, planned.plan.shards)
    told = json.loads(ingest(tree.root, out, "--json").stdout)
    assert told["outcome"] == "done"
    assert (told["figures"]["images_decoded"], told["figures"]["shards_written"]) == (0, 3)
    assert json.loads(ingest(tree.root, out, "--json").stdout)["outcome"] == "nothing to do"


@pytest.mark.ray
def test_bytes_do_not_depend_on_workers_or_the_order_of_work(tmp_path: Path, ray_cluster: None) -> None:
    """Compare Ray with one process that does everything backwards; with shards of more than one block."""
    tree, parallel, backwards = good_tree(tmp_path / "source", 500), tmp_path / "parallel", tmp_path / "backwards"
    settings = {"ingest.source.kind": "mimic-cxr", "ingest.source.root": tree.root, "ingest.side_px": 32}
    planned = plan_ingest(load_config(extra={**settings, "ingest.out": backwards}))
    assert [len(shard.blocks) for shard in planned.plan.shards] == [2, 1, 1]
    with planned.workspace.opened(planned.plan):
        for block in reversed(range(planned.plan.num_blocks)):
            decoder_of(planned).decode(block)
        decide(planned.plan, planned.workspace, planned.config.ingest.missing_findings)
        for shard in reversed(range(len(planned.plan.shards))):
            ShardAssembler.of(planned.plan, planned.workspace).assemble(shard)
    for out in (parallel, backwards):
        assert ingest(tree.root, out).exit_code == 0
    assert (parallel / "manifest.json").read_bytes() == (backwards / "manifest.json").read_bytes()
    assert {n: d for n, (_, d) in stamps(parallel).items()} == {n: d for n, (_, d) in stamps(backwards).items()}


@pytest.mark.ray
def test_another_config_in_the_same_folder_is_one_clear_error(tmp_path: Path, ray_cluster: None) -> None:
    tree, out = good_tree(tmp_path / "source"), tmp_path / "out"
    assert ingest(tree.root, out).exit_code == 0
    before = stamps(out)
    assert "side_px was 32 there and is 64 here" in fails(
        invoke("mimic-cxr", "--root", tree.root, "--out", out, "--side-px", 64)
    )
    tree.write_table("chexpert", tree.read_table("chexpert")[:-1])
    assert "tables of the collection" in fails(ingest(tree.root, out))
    assert stamps(out) == before


@pytest.mark.parametrize("name", ["train-00000.parquet", "manifest.json", "data/train-00000-of-00001.parquet"])
def test_folder_with_anything_else_is_left_alone(tmp_path: Path, name: str) -> None:
    # a dataset or a published model has a manifest.json too, which an ingest would delete
    tree, there = good_tree(tmp_path / "source"), tmp_path / "out" / name
    there.parent.mkdir(parents=True)
    there.write_bytes(b"precious")
    message = fails(ingest(tree.root, tmp_path / "out"))
    assert "is not empty and not a folder of an ingest (no .ingest/plan.json)" in message
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [there]
    assert there.read_bytes() == b"precious"


@pytest.mark.ray
def test_concurrent_ingests_into_one_folder_are_refused(tmp_path: Path, ray_cluster: None) -> None:
    tree, out = good_tree(tmp_path / "source"), tmp_path / "out"
    with alone_in(out, "ingest"):
        assert "Another `emixer ingest`" in fails(ingest(tree.root, out))


@pytest.mark.ray
def test_full_disk_loses_nothing_and_ingest_resumes_once_space_is_freed(
    tmp_path: Path, ray_cluster: None, small_disk: Callable[[int], Path]
) -> None:
    tree = good_tree(tmp_path / "source", num_images=40)
    out = small_disk(120) / "out"  # the pixels alone are 40 KiB, twice, and every file takes whole pages
    message = fails(ingest(tree.root, out, "--rows-per-shard", 5))
    assert "the disk or quota is full" in message
    assert not [path for path in out.rglob("*") if ".partial" in path.name]
    before = stamps(out)
    small_disk(4096)
    result = ingest(tree.root, out, "--rows-per-shard", 5)
    assert result.exit_code == 0, result.output
    assert stamps(out).items() >= before.items()
    ShardSet.open(out).verify()
    assert sum(ShardSet.open(out).num_rows(split) for split in ("train", "validate", "test")) == 40


@pytest.mark.ray
def test_collection_without_a_usable_image_says_why(tmp_path: Path, ray_cluster: None) -> None:
    tree = MimicTree(tmp_path / "source")
    for number in range(3):
        tree.add(number, None if number else b"")
    tree.write_tables()
    message = fails(ingest(tree.root, tmp_path / "out"))
    assert "None of the 3 images could be kept: 2 file is missing; 1 file is empty" in message


# ---------------------------------------------------------------- wrong tables: no image is opened


def with_line(name: str, row: int, line: str) -> Callable[[MimicTree], None]:
    def change(tree: MimicTree) -> None:
        lines = tree.read_table(name)
        lines[row - 1] = line
        tree.write_table(name, lines)

    return change


def without(name: str) -> Callable[[MimicTree], None]:
    return lambda tree: (tree.root / f"mimic-cxr-2.0.0-{name}.csv.gz").unlink()


def replacing(name: str, old: str, new: str) -> Callable[[MimicTree], None]:
    return lambda tree: tree.write_table(name, [line.replace(old, new) for line in tree.read_table(name)])


CHEXPERT_HEADER = ",".join(("subject_id", "study_id", *CHEXPERT))
BLANKS = "," * 11
SPLIT_TABLE = "mimic-cxr-2.0.0-split.csv.gz"
NOT_UTF8 = gzip.compress(b"dicom_id,split\n\xff,train\n")
BAD_TABLES: list[tuple[Callable[[MimicTree], Any], str]] = [
    (without("metadata"), "no table mimic-cxr-2.0.0-metadata.csv.gz"),
    (lambda tree: shutil.rmtree(tree.root / "files"), "holds no folder `files`"),
    (lambda tree: (tree.root / "mimic-cxr-2.1.0-split.csv").write_text("x"), "more than one split table"),
    (lambda tree: (tree.root / SPLIT_TABLE).write_bytes(b"not gzip"), "cannot be read as a UTF-8 CSV"),
    (lambda tree: (tree.root / SPLIT_TABLE).write_bytes(NOT_UTF8), "split.csv.gz, row 2: the text is not UTF-8"),
    (lambda tree: (tree.root / SPLIT_TABLE).write_bytes(gzip.compress(b"")), "split.csv.gz is empty"),
    (replacing("metadata", "ViewPosition", "View"), "metadata.csv.gz has no column 'ViewPosition'. Its columns are"),
    (replacing("chexpert", "Edema", "Oedema"), "unknown column 'Oedema'"),
    (with_line("chexpert", 1, f"{CHEXPERT_HEADER},Extra"), "unknown column 'Extra'"),
    (with_line("chexpert", 1, CHEXPERT_HEADER.replace("Edema", "Fracture")), r"columns \d+ and \d+ have the same name"),
    (with_line("chexpert", 3, f"10000001,50000001,1,0,2{BLANKS}"), "row 3, column 'Consolidation': the label is '2'"),
    (with_line("chexpert", 4, f"10000002,50000002,10000002,0,1{BLANKS}"), "row 4, .* the label is a text of 8"),
    (with_line("chexpert", 4, f"10000001,50000001,1,0,1{BLANKS}"), "rows 3 and 4 have the same study_id"),
    (with_line("chexpert", 5, "10000003,50000003,1"), "row 5: 3 columns, the header has 16"),
    (with_line("metadata", 3, "image-0000,10000001,50000001,PA,3000"), "rows 2 and 3 have the same dicom_id"),
    (with_line("metadata", 3, ",10000001,50000001,PA,3000"), "row 3: dicom_id is blank"),
    (with_line("metadata", 3, "../../x,10000001,50000001,PA,3000"), "row 3: dicom_id is not an id"),
    (with_line("split", 2, "image-0000,50000000,10000000,training"), "row 2: split is a text of 8"),
    (
        with_line("split", 2, "image-0000,50000000,10000000,dev"),
        "row 2: split is 'dev'. Expected one of train, validate",
    ),
    (replacing("metadata", "10000003", "10000000"), "1 subjects have images in more than one split"),
    (replacing("metadata", "PA", "LATERAL"), r"No image of .* is selected \(12 of view LATERAL\)"),
]


@pytest.mark.parametrize(("damage", "message"), BAD_TABLES)
def test_wrong_table_is_one_paragraph_with_file_and_row(
    tmp_path: Path, damage: Callable[[MimicTree], Any], message: str
) -> None:
    tree = good_tree(tmp_path / "source")
    damage(tree)
    output = fails(ingest(tree.root, tmp_path / "out", "--dry-run"))
    assert re.search(message, output), output
    assert not (tmp_path / "out").exists()


def test_dry_run_says_how_much_and_writes_nothing(tmp_path: Path) -> None:
    tree = good_tree(tmp_path / "source")
    result = ingest(tree.root, tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "Would ingest 12 images of mimic-cxr" in result.output
    assert "12 of 12 sampled images exist" in result.output
    assert not (tmp_path / "out").exists()


def test_dry_run_refuses_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    tree = good_tree(tmp_path / "source")
    (tmp_path / "out").write_text("a file\n")
    for out in (tmp_path / "out", tmp_path / "out" / "shards"):
        assert f"Cannot write {out}: Not a directory." in fails(ingest(tree.root, out, "--dry-run"))


def test_dry_run_that_finds_no_image_is_an_error_that_names_the_root(tmp_path: Path) -> None:
    tree = good_tree(tmp_path / "source")
    for path in tree.root.glob("files/**/*.jpg"):
        path.unlink()
    output = fails(ingest(tree.root, tmp_path / "out", "--dry-run"))
    assert f"None of 12 sampled images exists under {tree.root}: paths are relative to it." in output


def test_dry_run_of_a_folder_of_images_names_the_column_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,Edema,who\n10001234.png,1,10001234\n")
    given = ["--root", tmp_path, "--label-csv", tmp_path / "labels.csv", "--out", tmp_path / "out",
             "--path-column", "file", "--label-columns", "Edema", "--subject-column", "who", "--dry-run"]  # fmt: skip
    output = fails(invoke("image-folder", *given))
    assert f"None of 1 sampled images exists under {tmp_path}: the paths of column 'file' are relative to it." in output


# ---------------------------------------------------------------- the phantom and real collections


@pytest.mark.ray
def test_phantom_with_broken_files_is_ingested(tmp_path: Path, ray_cluster: None) -> None:
    phantom = ["--studies", "16", "--out", str(tmp_path / "phantom"), "--set", "phantom.height_px=64"]
    made = CliRunner().invoke(main, ["phantom", *phantom, "--set", "phantom.broken_files=6"])
    assert made.exit_code == 0, made.output
    result = ingest(tmp_path / "phantom", tmp_path / "out")
    assert result.exit_code == 0, result.output
    manifest = ShardSet.open(tmp_path / "out").manifest
    kept = sum(counts["images"] for counts in manifest["splits"].values())
    assert kept > 5
    assert manifest["images_selected"] == kept + sum(sum(r.values()) for r in manifest["left_out"].values())


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("EMIXER_REAL_DATA")
    if folder is None:
        pytest.skip("EMIXER_REAL_DATA names no folder with the real collections")
    return Path(folder)


@pytest.mark.ray
@pytest.mark.real_data
def test_indiana_images_and_reports_are_ingested(real_data: Path, tmp_path: Path, ray_cluster: None) -> None:
    result = invoke("open-i", "--root", real_data / "iu_xray", "--out", tmp_path, "--side-px", 32)
    assert result.exit_code == 0, result.output
    manifest = ShardSet.open(tmp_path).manifest
    assert manifest["images_selected"] == 3437
    assert manifest["left_out"].keys() == {"duplicate"}
    assert manifest["reports"]["train"].keys() == {"findings section", "impression section"}


@pytest.mark.ray
@pytest.mark.real_data
def test_duplicates_found_are_those_the_collection_marks(real_data: Path, tmp_path: Path, ray_cluster: None) -> None:
    table = real_data / "covid4class/labels.csv"
    result = invoke(
        "image-folder", "--root", table.parent, "--label-csv", table, "--class-column", "label",
        "--subject-column", "patient_id", "--out", tmp_path, "--side-px", 64,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with table.open() as file:
        marked = [row for row in csv.DictReader(file) if row["duplicate_of"]]
    duplicates = [path for path, (stage, _) in quarantine_of(tmp_path).items() if stage == "duplicate"]
    assert len(duplicates) == len(marked) == 30
