"""`emixer phantom --layout` followed by `emixer ingest`, for the layouts the two must agree on."""

import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from emixer.cli.main import main
from emixer.data.shards import ShardSet


def emixer(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.ray
def test_word_of_too_few_patients_is_in_no_vocabulary(tmp_path: Path, ray_cluster: None) -> None:
    """However often it stands in the reports of one: it may be a name."""
    rows = ["image,kind,who,exam,set,report"]
    for number, (who, text) in enumerate(
        [("p", "Kowalski effusion."), ("p", "Kowalski again."), ("q", "Effusion again.")]
    ):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},{who},e{number},train,{text}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    columns = {"subject": "who", "study": "exam", "split": "set", "report": "report"}
    given = [option for name, column in columns.items() for option in (f"--{name}-column", column)]
    words = {}
    for patients in (1, 2):
        out = tmp_path / f"shards-{patients}"
        done = emixer(
            "ingest", "image-folder", "--root", tmp_path, "--label-csv", tmp_path / "labels.csv", "--name", "own",
            "--class-column", "kind", *given, "--side-px", 32, "--min-token-count", 1, "--min-token-patients", patients,
            "--out", out,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        words[patients] = set(ShardSet.open(out).vocabulary.tokens[4:])
    assert words == {1: {"kowalski", "effusion", "again"}, 2: {"effusion", "again"}}


@pytest.mark.ray
@pytest.mark.parametrize("layout", ["chexpert", "padchest", "vindr-cxr", "brax"])
def test_phantom_in_another_layout_is_ingested_by_one_command(layout: str, tmp_path: Path, ray_cluster: None) -> None:
    root, out = tmp_path / layout, tmp_path / "shards"
    drawn = emixer("phantom", "--layout", layout, "--studies", 12, "--height-px", 80, "--out", root)
    assert drawn.exit_code == 0, drawn.output
    assert f"emixer ingest {layout} --config demo --root {root}" in drawn.output
    command = shlex.split(drawn.output.partition("Next: emixer ")[2])
    taken = emixer(*command, "--side-px", 32, "--min-token-count", 1)
    assert taken.exit_code == 0, taken.output
    manifest = json.loads((out / "manifest.json").read_text())
    kept = sum(split["images"] for split in manifest["splits"].values())
    assert kept + sum(manifest["left_out"].get("duplicate", {}).values()) == manifest["images_selected"] > 8
    assert manifest["not_selected"] or manifest["remarks"]
    summary = taken.output.splitlines()
    for title, counts in (("Not selected:", manifest["not_selected"]), ("Also noticed:", manifest["remarks"])):
        assert (title in summary) == bool(counts), taken.output
        if counts:
            listed = summary[summary.index(title) + 1 :][: len(counts)]
            assert listed == [f"  {count:>10,}  {what}" for what, count in counts.items()]
    shards = ShardSet.open(out)
    rows = [row for split in shards.splits for path in shards.files(split) for row in pq.read_table(path).to_pylist()]
    assert {row["source"] for row in rows} == {"phantom"}
    assert {row.get("manufacturer") for row in rows} == ({"emixer"} if layout == "brax" else {None})
    known = ("sex", "age_years", *(["manufacturer"] if layout == "brax" else []))
    assert shards.info.known_of_images == known
    if layout == "vindr-cxr":
        factors = {row["dicom_id"].replace("-", ""): row for row in pq.read_table(root / "factors.parquet").to_pylist()}
        for row in rows:
            drawn_as = factors[row["dicom_id"]]
            assert (row["sex"], row["age_years"]) == (drawn_as["sex"], drawn_as["age_years"])
    if layout == "chexpert":
        outcomes = {outcome for counts in manifest["reports"].values() for outcome in counts}
        assert outcomes <= {"findings section", "impression section"}
        assert all(row["report"] and row["sentences"] for row in rows)
    if layout == "padchest":
        assert shards.info.report_language == "es"
        assert {row["report"] for row in rows} <= {"sin hallazgos .", "con hallazgos ."}
        assert {row["sentences"] for row in rows} == {None}
        assert not any(shards.has_reports(split) for split in shards.splits)
        assert manifest["vocabulary"]["token_occurrences_in_train"] == 0
        outcomes = {outcome for counts in manifest["reports"].values() for outcome in counts}
        assert outcomes == {"whole text, not in English"}


def test_broken_files_are_only_for_mimic_cxr_layouts(tmp_path: Path) -> None:
    result = emixer("phantom", "--layout", "brax", "--broken-files", 2, "--studies", 5, "--out", tmp_path / "x")
    assert result.exit_code == 2
    assert "phantom.broken_files=2 only works with MIMIC-CXR layouts, not with brax." in result.output


def test_phantom_of_dicom_images_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emixer.data.dicom.find_spec", lambda name: None)
    result = emixer("phantom", "--layout", "mimic-cxr", "--studies", 5, "--out", tmp_path / "x")
    assert result.exit_code == 2
    assert "Run `pip install '.[dicom]'` in a clone of emixer." in result.output
