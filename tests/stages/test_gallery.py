"""Tests of the gallery stage and its command."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from emixer.cli.gallery import command
from emixer.config import load_config
from emixer.data.labels import LabelPolicy
from emixer.data.schema import ShardInfo
from emixer.data.shards import ShardSet, shard_name, write_shard
from emixer.data.vocabulary import SPECIAL_TOKENS, Vocabulary
from emixer.errors import CheckpointError, ConfigError, RunFolderError, ShardError, StorageError
from emixer.files import write_json
from emixer.gallery.page import Pair
from emixer.gallery.real_examples import read_real_examples
from emixer.gallery.sample_grid import draw_pairs
from emixer.generation import load
from emixer.run_folder import RunFolder
from emixer.stages import gallery, generate
from tests.answers import answer_of
from tests.here import drawing_here
from tests.shard_columns import fill_column


@pytest.fixture(scope="module")
def dataset(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A finished dataset of 32 pairs in two files."""
    out = tmp_path_factory.mktemp("dataset") / "synthetic"
    rows = {"generate.num": 32, "generate.batch_size": 16, "generate.rows_per_group": 16, "generate.rows_per_file": 16}
    with drawing_here():
        generate.run(load_config(extra={"generate.run": tiny_run, "generate.out": out} | rows))
    return out


def test_generated_pairs_are_shown_next_to_real_ones_with_the_same_labels(
    tiny_run: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    keys = {
        "gallery.run": tiny_run,
        "gallery.out": out,
        "gallery.pairs": 5,
        "gallery.seed": 3,
        "data.shards": tiny_shards,
    }
    result = gallery.run(load_config(extra=keys))
    assert (result.page, result.pairs, result.real) == (out, 5, True)
    assert str(out) in str(result)
    assert answer_of(result)["figures"] == {"pairs": 5, "shows_real_pairs": True, "bytes": out.stat().st_size}
    html = out.read_text()
    real = read_real_examples(ShardSet.open(tiny_shards), "validate", 5, LabelPolicy("zeros", "zeros"), "")
    pairs = load(tiny_run).sample(labels=real.labels_NY, seed=3)
    for image_HW in [*real.images_NHW, *pairs.images]:
        assert Pair(image_HW, "").uri in html
    for identifier in pq.read_table(ShardSet.open(tiny_shards).files("validate")[0])["subject_id"].to_pylist():
        assert identifier not in html


def test_shards_are_not_needed_without_real_images(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = gallery.run(load_config(extra={"gallery.run": tiny_run, "gallery.out": out, "gallery.real": False}))
    assert (result.pairs, result.real) == (24, False)
    assert "Real data" not in out.read_text()


def test_figures_belong_to_the_checkpoint_shown(tiny_run: Path, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    for images, distance in ((500, 9.125), (1000, 4.25), (2000, 17.5)):  # the checkpoint is at 1,000 images
        areas = {"validation/label_auc_generated": 0.75, "validation/label_auc_real": 0.88}
        run.append_metrics({"images": images, "validation/fid_random_densenet": distance, **areas})
    draw_pairs(np.zeros((1, 32, 32), np.uint8), [[]], [""], run.samples / "images-000000001000.png", "One")
    result = gallery.run(load_config(extra={"gallery.run": run.path, "gallery.real": False}))
    html = result.page.read_text()
    assert result.page == run.path / "gallery.html"
    assert "<dd>4.25</dd>" in html
    assert "label AUC of images (real: 0.88)" in html
    assert "Grid of generated images with labels and reports after 1,000 images" in html


@pytest.mark.ray
def test_dataset_page_shows_the_first_pairs_and_label_counts(dataset: Path) -> None:
    result = gallery.run(load_config(extra={"gallery.dataset": dataset, "gallery.pairs": 20}))
    html = result.page.read_text()
    rows = [row for path in sorted((dataset / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert (result.page, result.pairs) == (dataset / "gallery.html", 20)
    assert html.count('<article class="comparison"') == 20
    assert html.count(rows[19]["report"]) >= 1
    assert "Labels of the dataset" in html
    assert "32 synthetic pairs" in html
    result.page.unlink()  # the dataset stays as `emixer generate` left it


@pytest.mark.ray
def test_run_and_dataset_share_a_page(tiny_run: Path, dataset: Path, tmp_path: Path) -> None:
    keys = {
        "gallery.run": tiny_run,
        "gallery.dataset": dataset,
        "gallery.out": tmp_path / "p.html",
        "gallery.real": False,
    }
    html = gallery.run(load_config(extra=keys)).page.read_text()
    assert "Labels of the dataset" in html
    assert "EMIXER at 32 px" in html


@pytest.mark.ray
def test_real_images_are_shown_in_no_folder_that_is_given_away(
    tiny_run: Path, tiny_shards: Path, dataset: Path
) -> None:
    keys = {"gallery.run": tiny_run, "data.shards": tiny_shards, "gallery.out": dataset / "page.html"}
    with pytest.raises(
        ConfigError, match=r"real images and reports in .*given away\. Give --out FILE.*gallery\.real=false"
    ):
        gallery.describe(load_config(extra=keys))
    assert "Would write" in gallery.describe(load_config(extra=keys | {"gallery.real": False}))


@pytest.mark.ray
def test_damaged_dataset_file_is_named_with_what_to_do(dataset: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(dataset, tmp_path / "broken")
    first = min((broken / "data").glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:100])
    with pytest.raises(RunFolderError, match=rf"{first.name} cannot be read .* Delete it"):
        gallery.run(load_config(extra={"gallery.dataset": broken}))
    assert not (broken / "gallery.html").exists()


def test_missing_inputs_are_reported_before_drawing(tiny_run: Path, tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give --run FOLDER"):
        gallery.run(load_config())
    with pytest.raises(RunFolderError, match="is not a run folder"):
        gallery.run(load_config(extra={"gallery.run": tmp_path}))
    with pytest.raises(ConfigError, match=r"moved, or --real false"):
        gallery.run(load_config(extra={"gallery.run": tiny_run, "data.shards": tmp_path / "gone"}))
    with pytest.raises(RunFolderError, match="is not a finished dataset"):
        gallery.run(load_config(extra={"gallery.dataset": tmp_path}))
    empty = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        gallery.run(load_config(extra={"gallery.run": empty, "data.shards": tiny_shards}))


def test_shards_with_other_labels_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    info = ShardInfo(32, ("Normal", "COVID"), "findings", 1, "test")
    path = tmp_path / shard_name("validate", 0)
    row = {
        "dicom_id": "a",
        "study_id": "a",
        "subject_id": "a",
        "split": "validate",
        "image": bytes(1024),
        "source": "t",
    }
    write_shard(path, info.arrow_schema().empty_table().from_pylist([row], schema=info.arrow_schema()), info, 16)
    listed = {"name": path.name, "split": "validate", "num_rows": 1, "num_bytes": path.stat().st_size, "sha256": ""}
    write_json(tmp_path / "manifest.json", {"shards": [listed]})
    Vocabulary(SPECIAL_TOKENS).save(tmp_path / "vocabulary.json")
    with pytest.raises(ConfigError, match="other labels than the run"):
        gallery.run(load_config(extra={"gallery.run": tiny_run, "data.shards": tmp_path}))


def test_training_images_are_not_shown_as_held_out_ones(
    tiny_run: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    keys = {"gallery.run": tiny_run, "gallery.out": tmp_path / "p.html", "data.shards": make_shards(tmp_path, train=16)}
    for go in (gallery.run, gallery.describe):
        with pytest.raises(ConfigError, match=r"hold training images only.*--real false"):
            go(load_config(extra=keys))


def test_held_out_images_without_labels_are_no_pairs_to_show(
    tiny_run: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    shards = make_shards(tmp_path / "shards", train=16, validate=16)
    fill_column(shards, "validate", "labels", None)
    with pytest.raises(ShardError, match=r"No image in the validate split of .* has labels.*--real false"):
        gallery.run(load_config(extra={"gallery.run": tiny_run, "data.shards": shards, "gallery.out": tmp_path / "p"}))


def test_a_folder_is_no_page(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"is a folder.*e\.g\. {tmp_path}/gallery\.html"):
        gallery.describe(load_config(extra={"gallery.run": tiny_run, "gallery.out": tmp_path, "gallery.real": False}))
    with pytest.raises(StorageError, match="Not a directory"):
        gallery.describe(
            load_config(extra={"gallery.run": tiny_run, "gallery.out": tiny_run / "run.json" / "page.html"})
        )


def test_dry_run_says_what_it_would_do_and_writes_nothing(tiny_run: Path, tiny_shards: Path, tmp_path: Path) -> None:
    arguments = ["--run", str(tiny_run), "--shards", str(tiny_shards), "--out", str(tmp_path / "p.html"), "--dry-run"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert f"Would write {tmp_path / 'p.html'}" in result.output
    assert "24 pairs generated from images-000000001000 with seed 0, next to real held-out pairs" in result.output
    assert list(tmp_path.iterdir()) == []


def test_command_names_the_page_and_warns_of_real_images(tiny_run: Path, tiny_shards: Path, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    result = CliRunner().invoke(command, ["--run", str(tiny_run), "--shards", str(tiny_shards), "--out", str(page)])
    assert result.exit_code == 0, result.output
    assert str(page) in result.output
    assert "share it only as the terms" in result.output
    assert page.stat().st_size > 10_000
