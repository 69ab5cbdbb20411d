"""`emixer generate`, from a run folder to a dataset that other tools open."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from emixer.cli.generate import command
from emixer.config import Config, load_config
from emixer.data.labels import CHEXPERT
from emixer.errors import ConfigError, RunFolderError, StorageError
from emixer.files import sha256_of
from emixer.generation.sampler import load
from emixer.stages.generate import GenerateResult, describe, run
from tests.here import drawing_here

NUM = 150
Make = Callable[..., Config]


@pytest.fixture(scope="module")
def make_config(tiny_run: Path) -> Make:
    def make(out: Path, **settings: Any) -> Config:
        values = {
            "run": tiny_run, "out": out, "num": NUM, "seed": 4, "batch_size": 16, "rows_per_group": 32,
            "rows_per_file": 64, "num_samplers": 1, "cpus_per_sampler": 1, **settings,
        }  # fmt: skip
        return load_config(extra={f"generate.{name}": value for name, value in values.items()})

    return make


@pytest.fixture(scope="module")
def made(make_config: Make, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> GenerateResult:
    """A finished dataset of 150 rows in three files."""
    return run(make_config(tmp_path_factory.mktemp("generated") / "dataset"))


@pytest.fixture
def datasets_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real `datasets` library, offline, with its own cache."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return datasets


@pytest.mark.ray
def test_datasets_opens_the_files_with_decoded_images(
    made: GenerateResult, tiny_run: Path, datasets_library: Any, tmp_path: Path
) -> None:
    opened = datasets_library.load_dataset(
        "parquet", data_files=f"{made.folder}/data/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert opened.column_names == ["image", "report", *CHEXPERT, "seed", "index"]
    assert isinstance(opened.features["image"], datasets_library.Image)
    assert {opened.features[name].dtype for name in CHEXPERT} == {"int8"}
    assert opened["index"][:] == list(range(NUM))
    assert set(opened["seed"]) == {4}
    pairs = load(tiny_run, device="cpu", batch_size=16).sample(num=NUM, seed=4)
    for index in (0, 63, 64, 149):  # the ends of files
        row = opened[index]
        assert isinstance(row["image"], Image.Image)
        np.testing.assert_array_equal(np.asarray(row["image"]), pairs.images[index])
        assert row["report"] == pairs.reports[index]
        assert [row[name] for name in CHEXPERT] == pairs.labels[index].tolist()


@pytest.mark.ray
def test_datasets_opens_the_folder_by_its_card(made: GenerateResult, datasets_library: Any, tmp_path: Path) -> None:
    opened = datasets_library.load_dataset(str(made.folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in opened.items()} == {"train": NUM}
    assert opened["train"][0]["image"].size == (32, 32)


@pytest.mark.ray
def test_card_and_manifest_describe_the_dataset(made: GenerateResult) -> None:
    card = (made.folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "other"
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    for phrase in (
        "150 generated pairs",
        "not for diagnosis",
        "No privacy audit",
        "data use agreement",
        "| seed | 4 |",
    ):
        assert phrase in card
    assert str(made.folder) not in card

    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["complete"]
    assert [(file["first_row"], file["rows"]) for file in manifest["files"]] == [(0, 64), (64, 64), (128, 22)]
    for file in manifest["files"]:
        assert file["sha256"] == sha256_of(made.folder / file["name"])
    rows = pq.read_table(made.folder / "data")
    counts = {name: sum(rows[name].to_pylist()) for name in CHEXPERT}
    assert manifest["label_counts"] == made.label_counts == counts
    assert all(f"| {name} | {count} | {count / NUM:.1%} |\n" in card for name, count in counts.items())


@pytest.mark.ray
def test_contact_sheet_is_a_picture_of_the_first_images(made: GenerateResult, tiny_run: Path) -> None:
    sheet = np.asarray(Image.open(made.folder / "contact_sheet.png"))
    pairs = load(tiny_run, device="cpu", batch_size=16).sample(num=NUM, seed=4)
    for place in range(12):  # in rows of four, with each pixel eight times as wide and high
        x, y = 16 + place % 4 * 272, 56 + place // 4 * 380
        np.testing.assert_array_equal(sheet[y : y + 256 : 8, x : x + 256 : 8, 0], pairs.images[place])


@pytest.mark.ray
def test_summary_names_the_folder_and_how_to_open_it(made: GenerateResult) -> None:
    text = str(made)
    assert text.startswith("150 pairs in 3 file(s)")
    assert f'load_dataset("parquet", data_files="{made.folder}/data/*.parquet", split="train")' in text


@pytest.mark.ray
def test_same_command_again_makes_only_what_is_missing_or_damaged(made: GenerateResult, make_config: Make) -> None:
    files = sorted((made.folder / "data").iterdir())
    contents = [file.read_bytes() for file in files]
    untouched = files[0].stat().st_mtime_ns
    files[1].write_bytes(contents[1][:-50])
    files[2].unlink()
    with drawing_here():
        again = run(make_config(made.folder))
    assert again.new_rows == 64 + 22
    assert [file.read_bytes() for file in sorted((made.folder / "data").iterdir())] == contents
    assert files[0].stat().st_mtime_ns == untouched
    assert run(make_config(made.folder)).new_rows == 0


@pytest.mark.ray
def test_same_command_again_leaves_a_card_that_its_owner_edited(
    made: GenerateResult, make_config: Make, tmp_path: Path
) -> None:
    copy = shutil.copytree(made.folder, tmp_path / "copy")
    written = (copy / "README.md").read_text()
    (copy / "README.md").write_text("license: mine\n")
    assert run(make_config(copy)).new_rows == 0
    assert (copy / "README.md").read_text() == "license: mine\n"
    (copy / "README.md").unlink()
    run(make_config(copy))
    assert (copy / "README.md").read_text() == written


@pytest.mark.ray
def test_repair_keeps_what_the_owner_added_to_card_and_manifest(
    made: GenerateResult, make_config: Make, tmp_path: Path
) -> None:
    copy = shutil.copytree(made.folder, tmp_path / "copy")
    (copy / "README.md").write_text("license: mine\n")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"doi": "10.1000/182"}))
    max((copy / "data").iterdir()).unlink()
    with drawing_here():
        assert run(make_config(copy)).new_rows == 22
    assert (copy / "README.md").read_text() == "license: mine\n"
    assert json.loads((copy / "manifest.json").read_text()) == manifest | {"doi": "10.1000/182"}


@pytest.mark.ray
def test_a_file_that_has_rotted_since_is_made_again_and_not_vouched_for(
    made: GenerateResult, make_config: Make, tmp_path: Path
) -> None:
    copy = shutil.copytree(made.folder, tmp_path / "copy")
    rotten = copy / "data" / "train-00001-of-00003.parquet"
    content = bytearray(rotten.read_bytes())
    content[len(content) // 3] ^= 0xFF  # within an image: neither size nor footer tells
    rotten.write_bytes(content)
    with drawing_here():
        assert run(make_config(copy)).new_rows == 64
    for name in ("manifest.json", "data/train-00001-of-00003.parquet"):
        assert (copy / name).read_bytes() == (made.folder / name).read_bytes()


@pytest.mark.ray
def test_other_settings_in_the_same_folder_are_refused_by_name(made: GenerateResult, make_config: Make) -> None:
    before = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    for go in (run, describe):
        with pytest.raises(
            RunFolderError, match=r"another dataset:\n  num: 150 there, 151 now\n  seed: 4 there, 5 now"
        ):
            go(make_config(made.folder, num=151, seed=5))
    assert {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()} == before


def test_folder_with_other_files_is_refused(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match="is not empty and not a dataset"):
        run(make_config(tmp_path))


def test_bad_settings_are_reported_before_ray_starts(make_config: Make, tmp_path: Path) -> None:
    for settings, message in (
        ({"labels": ("Pneumotorax",)}, "Did you mean Pneumothorax"),
        ({"plan": "nowhere.csv"}, "neither `train` nor `balanced` nor a file"),
        ({"rows_per_file": 40}, "not a multiple"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(make_config(tmp_path / "out", **settings))
    assert not (tmp_path / "out").exists()


def test_dry_run_says_how_much_and_touches_nothing(make_config: Make, tmp_path: Path) -> None:
    text = describe(make_config(tmp_path / "out", num=600_000, rows_per_file=8192, rows_per_group=512))
    assert "600,000 pairs of 32 px" in text
    assert "74 of up to 8,192 rows, 74 still to make" in text
    assert list(tmp_path.iterdir()) == []


def test_dry_run_refuses_a_place_that_cannot_be_written(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"is a file\. A dataset needs a folder"):
        describe(make_config(tmp_path / "file"))
    with pytest.raises(StorageError, match="Not a directory"):
        describe(make_config(tmp_path / "file" / "dataset"))


def test_csv_plan_sets_the_number_of_rows(make_config: Make, tmp_path: Path) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text("Edema,count\n1,30\n0,12\n")
    assert "42 pairs" in describe(make_config(tmp_path / "out", plan=str(plan), num=None))
    assert "7 pairs" in describe(make_config(tmp_path / "out", plan=str(plan), num=7))


def test_command_line_takes_labels_and_names_missing_settings(tiny_run: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = ["--run", str(tiny_run), "--out", str(tmp_path / "out"), "--num", "2_000", "--dry-run"]
    shown = runner.invoke(command, [*arguments, "--labels", "Edema,Pneumonia"])
    assert shown.exit_code == 0, shown.output
    assert "2,000 pairs" in shown.output
    assert "Edema, Pneumonia in every row" in shown.output
    missing = runner.invoke(command, arguments[2:])
    assert missing.exit_code == 2
    assert "generate.run is not set. Give --run" in missing.output
