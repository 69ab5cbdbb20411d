"""`emixer experiment` on small shards: filling, killing, resuming and sharing tables, and reporting failures."""

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from emixer.checkpoint import save_checkpoint
from emixer.config import Config, to_yaml, with_overrides
from emixer.config.model import ChestEncoderConfig, JointganModelConfig, SmganModelConfig
from emixer.data.labels import CHEXPERT
from emixer.data.loader import fixed_binary_view
from emixer.data.pair_table import read_real
from emixer.data.schema import ShardInfo, read_shard_info
from emixer.data.shards import ShardSet, write_shard
from emixer.errors import DivergenceError, EmixerError, RunFolderError, ShardError, StorageError, UnfinishedError
from emixer.evaluation.features import FeatureExtractor
from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.experiments.figures import draw_images
from emixer.files import alone_in, sha256_of
from emixer.generation.trained_model import read_trained_model
from emixer.models.chest_encoder import ChestEncoder
from emixer.models.encoder_facts import EncoderFacts
from emixer.models.encoder_weights import save_encoder_weights
from emixer.run_folder import RunFolder
from emixer.stages import experiment
from emixer.stages.experiment import plan
from emixer.stages.experiment.cell import Generated
from emixer.stages.experiment.figures import alike, draw_figures
from emixer.stages.experiment.plan import Experiment
from tests.answers import answer_of
from tests.here import drawing_here, trained_here
from tests.shard_columns import fill_column

pytestmark = [pytest.mark.long, pytest.mark.ray]

DISEASES = ("Atelectasis", "Edema")
CLASSES = ("A", "B", "C", "D")
TINY = {"growth": 4, "blocks": [1, 1, 1, 1], "stem_channels": 8, "input_px": 32, "frozen": False}
MakeShards = Callable[..., Path]


@pytest.fixture(scope="session")
def shards(make_shards: MakeShards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards with 96 training and 64 test images, two of each test subject."""
    made = make_shards(tmp_path_factory.mktemp("shards"), train=96, validate=32, test=64)
    table = pq.read_table(made / "test-00000.parquet")
    whose = pa.array([f"test-{row // 2}" for row in range(table.num_rows)])
    rewritten(made, table.set_column(table.schema.get_field_index("subject_id"), "subject_id", whose))
    return made


@pytest.fixture(scope="session")
def config(tiny_config: Config, shards: Path) -> Config:
    """The smallest table: one method, one seed, sizes of the paper x 0.0003."""
    return with_overrides(tiny_config, {
        "data.shards": shards, "train.images": 32, "train.save_every_images": 32, "train.validate_every_images": 32,
        "generate.batch_size": 16, "generate.rows_per_group": 32, "generate.rows_per_file": 96,
        "generate.num_samplers": 1, "experiment.scale": 3e-4, "experiment.seeds": [0], "experiment.methods": ["emixer"],
        "experiment.beyond": [],
        "experiment.diseases": DISEASES, "experiment.resamples": 20, "experiment.downstream.images": 64,
        "experiment.downstream.batch_size": 16, "experiment.downstream.validate_every_images": 32,
        "experiment.downstream.network": TINY, "experiment.downstream.joint_hidden": 8,
        "experiment.downstream.report_decoder": {
            "kind": "attentive", "encoder": TINY, "width": 16, "heads": 2, "layers": 1,
        },
    })  # fmt: skip


def changed(config: Config, out: Path, table: str = "table1", **settings: Any) -> Config:
    given = {key.replace("__", "."): value for key, value in settings.items()}
    return with_overrides(config, {"experiment.out": out, "experiment.table": table} | given)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def filled(ray_cluster: None, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with table 1."""
    out = tmp_path_factory.mktemp("experiment") / "out"
    result = experiment.run(changed(config, out))
    assert (result.computed, result.kept) == (10, 0), "five mixtures, two tasks"
    return out


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    """A copy of the folder with table 1, for tests that change it."""
    shutil.copytree(filled, tmp_path / "out", copy_function=shutil.copy2)
    return tmp_path / "out"


def test_table_is_written_in_four_formats_with_the_papers_figures(filled: Path) -> None:
    tables = filled / "tables"
    assert sorted(path.name for path in tables.iterdir()) == ["table1.csv", "table1.md", "table1.png", "table1.tex"]
    text = (tables / "table1.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| EMIXER")]
    assert [row.split("|")[2].strip() for row in rows] == ["R30 + S15", "R30 + S30", "R30 + S90", "R30 + S180"]
    assert re.search(r"\| Only real \| R30 \| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \| 0\.824 \|", text)
    assert "Measured on tiny, 96 training images of 32 px" in text
    assert "64 test images of 32 subjects" in text
    assert re.search(r"AUC and ACC over Atelectasis \d+, Edema \d+\. The paper's", text)
    assert (tables / "table1.png").read_bytes().startswith(b"\x89PNG")


def test_finished_cells_are_reused_and_lost_cells_recomputed(ray_cluster: None, config: Config, copied: Path) -> None:
    before = times(copied / "cells") | times(copied / "generators")
    again = experiment.run(changed(config, copied))
    assert (again.computed, again.kept) == (0, 10)
    told = answer_of(again)
    assert told["outcome"] == "nothing to do"
    with (copied / "tables" / "table1.csv").open() as file:
        written = [(row["method"], row["metric"], row["data"]) for row in csv.DictReader(file)]
    assert [(row["method"], row["metric"], row["data"]) for row in told["figures"]["rows"]] == written
    assert times(copied / "cells") | times(copied / "generators") == before
    lost, damaged, *rest = sorted((copied / "cells").iterdir())
    content = json.loads(lost.read_text())["figures"]
    lost.unlink()
    damaged.write_text("{cut short")
    assert "2 of 10 cells to do" in experiment.describe(changed(config, copied))
    repaired = experiment.run(changed(config, copied))
    assert (repaired.computed, repaired.kept) == (2, 8)
    assert json.loads(lost.read_text())["figures"] == pytest.approx(content, nan_ok=True)
    assert all(times(copied / "cells")[path] == before[path] for path in rest)


def test_tables_in_one_folder_share_generators_and_cells(ray_cluster: None, config: Config, copied: Path) -> None:
    before = times(copied / "generators")
    result = experiment.run(changed(config, copied, "table10"))
    assert (result.computed, result.kept) == (4, 1), "R100k is in table 1"
    assert times(copied / "generators") == before
    more = experiment.run(changed(config, copied, "table10", experiment__downstream__lr=2e-3))
    assert (more.computed, more.kept) == (5, 0), "another setting is another cell"
    plan = experiment.describe(changed(config, copied, "table10", experiment__downstream__lr=3e-3))
    assert re.search(
        r"to do +images R30 \(a finished one differs in: inputs\.downstream\.lr 0\.00[12] there, 0\.003 now\); seed 0",
        plan,
    )
    assert re.search(r"mean time of finished cells: images \d+ s, reports \d+ s; remaining cells about \d+ s", plan)


def test_rows_beyond_the_paper_are_judged_once_and_reused(ray_cluster: None, config: Config, copied: Path) -> None:
    wanted = changed(config, copied, experiment__beyond=["emixer"])
    result = experiment.run(wanted)
    assert (result.computed, result.kept) == (6, 10)
    text = result.filled.markdown()
    for data in ("R30 + S150", "S180, then R30", "R30 + S90 chosen from S180"):
        assert f"| EMIXER | {data} | 0." in text
    (judgement,) = (copied / "judgements").iterdir()
    judged, marks = times(copied / "judgements"), np.load(judgement)
    assert marks.shape == (180,)
    values = {line.split(",")[1]: line.split(",")[3] for line in result.filled.csv().splitlines() if ",AUC," in line}
    assert values["R30 + S90 chosen from S180"] != values["R30 + S90"]
    again = experiment.run(wanted)
    assert (again.computed, again.kept) == (0, 16)
    more = experiment.run(with_overrides(wanted, {"experiment.seeds": [0, 1]}))
    assert (more.computed, more.kept) == (16, 16)
    assert times(copied / "judgements") == judged, "judged once, whatever the seed of the downstream model"
    judgement.write_bytes(b"cut short")
    experiment.run(with_overrides(wanted, {"experiment.seeds": [2]}))
    assert np.array_equal(np.load(judgement), marks), "judged again, to the same marks"


def test_gain_is_relative_to_the_same_number_of_real_pairs_alone(
    ray_cluster: None, config: Config, copied: Path
) -> None:
    made = [copied / "generators/emixer" / part for part in ("dataset", "run/checkpoints")]
    before = list(map(times, made))
    wanted = changed(config, copied, "gain", experiment__real_pairs=[10, 30], experiment__multiples=[1, 6],
                     experiment__gain_tasks=["images"])  # fmt: skip
    with drawing_here():
        result = experiment.run(wanted)
    assert (result.computed, result.kept) == (12, 3), "R30 alone, with S30 and with S180 are in table 1"
    assert list(map(times, made)) == before, "one model makes both datasets"
    manifest = json.loads((copied / "generators/emixer-balanced/dataset/manifest.json").read_text())
    assert manifest["rows"] == 180
    lines = list(csv.DictReader(io.StringIO(result.filled.csv())))
    auc = {line["data"]: float(line["mean"]) for line in lines}
    for line in lines:
        first = line["data"] in ("R10", "R30")
        real = next(base for base in ("R10", "R30") if base in re.findall(r"R\d+", line["data"]))
        gain = float(line["gain"] or "nan")
        assert gain == pytest.approx(math.nan if first else auc[line["data"]] - auc[real], abs=2e-6, nan_ok=True)
    assert re.search(r"\| More real \| R10 \+ R60 \| 0\.\d{3} \[[^|]+\| [+-]0\.\d{3} \|", result.filled.markdown())
    assert "MIMIC-CXR" not in result.filled.markdown(), "the paper has no such table"
    assert (copied / "tables/gain.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(EmixerError, match=r"gain needs 2,000 real .*experiment\.real_pairs"):
        experiment.describe(with_overrides(wanted, {"experiment.real_pairs": [10, 2000]}))


@pytest.mark.thorough
def test_seeds_use_several_generators_and_draws_of_real_pairs(ray_cluster: None, config: Config, given: Path) -> None:
    runs = [given / name for name in ("run", "second", "third")]
    for run in runs[1:]:
        shutil.copytree(runs[0], run)
    named = [f"{name}={run}" for name, run in zip(("emixer", "emixer.1", "emixer.2"), runs, strict=True)]
    out = given / "out"
    wanted = changed(config, out, "table9", experiment__methods=["emixer"], experiment__seeds=[0, 1, 2],
                     experiment__generators=3, experiment__redraw=True, experiment__runs=named)  # fmt: skip
    assert f"given run: {runs[1]}" in next(
        line for line in experiment.describe(wanted).splitlines() if line.strip().startswith("emixer.1 ")
    )
    result = experiment.run(wanted)
    assert sorted(path.name for path in (out / "generators").iterdir()) == ["emixer", "emixer.1", "emixer.2"]
    cells = [json.loads(path.read_text())["about"]["decided_by"]["cell"] for path in (out / "cells").iterdir()]
    mixes = sorted((cell["seed"], cell["mix"]["generator"] or "", cell["mix"].get("draw", 0)) for cell in cells)
    assert mixes == [(0, "", 1), (0, "emixer", 0), (1, "", 2), (1, "emixer.1", 0), (2, "", 3), (2, "emixer.2", 0)]
    assert result.computed == 6
    assert experiment.run(wanted).kept == 6
    twice = changed(config, out, "table9", experiment__generators=3, experiment__seeds=[0, 1, 2],
                    experiment__runs=[f"emixer={runs[0]}", f"emixer.1={runs[0]}"])  # fmt: skip
    with pytest.raises(EmixerError, match=r"run is given for two generators\. Each needs a run of its own"):
        experiment.describe(twice)


@pytest.mark.thorough
def test_own_generator_is_trained_on_the_same_real_pairs_as_the_classifier(
    ray_cluster: None, config: Config, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    wanted = changed(config, out, "gain", experiment__real_pairs=[40], experiment__multiples=[1],
                     experiment__gain_tasks=["images"], experiment__generators_from="real", experiment__redraw=True,
                     experiment__seeds=[0, 1])  # fmt: skip
    assert "emixer@R40.1" in experiment.describe(wanted)
    assert not out.exists(), "a plan writes nothing"
    result = experiment.run(wanted)
    assert (result.computed, result.kept) == (12, 0)
    train = pa.concat_tables(pq.read_table(file) for file in ShardSet.open(shards).files("train"))
    for draw in (1, 2):
        own = ShardSet.open(out / f"real-pairs/R40.{draw}")
        assert own.splits == ("train", "validate"), "nothing to test on"
        labels = experiment.plan.policy_of(wanted)
        shape = experiment.checked(wanted).shape
        drawn = read_real(ShardSet.open(shards), "train", shape, labels, 40, seed=draw)
        seen = pq.read_table(own.files("train")[0])
        images = {bytes(image) for image in drawn.image_NHW}
        assert {*seen["image"].to_pylist()} == images
        assert len(images & {*train["image"].to_pylist()}) == 40
        spec = read_trained_model(out / f"generators/emixer@R40.{draw}/run", "last").spec
        assert sum(spec.label_counts) == 40 - seen["labels"].null_count
    assert "Each generator is trained on the real pairs of its row alone" in result.filled.markdown()
    assert experiment.run(wanted).kept == 12


@pytest.mark.thorough
def test_table3_trains_on_part_of_the_labels_and_measures_fid(
    ray_cluster: None, config: Config, copied: Path, shards: Path, tmp_path: Path
) -> None:
    wanted = changed(config, copied, "table3")
    result = experiment.run(wanted)
    assert (result.computed, result.kept) == (9, 0), "two tasks of three generators on S100k, three distances"
    shares = [
        RunFolder(copied / "generators" / name / "run").config.data.labelled_fraction
        for name in ("emixer-30", "emixer-50", "emixer")
    ]
    assert shares == [0.3, 0.5, 1]
    rows = {row["data"]: row for row in csv.DictReader(io.StringIO(result.filled.csv())) if row["metric"] == "FID"}
    assert {row["encoder"] for row in rows.values()} == {"random_densenet at 64 px, 64 images per side"}
    real = fixed_binary_view(pq.read_table(shards / "test-00000.parquet")["image"], np.uint8, (32, 32))
    extractor = FeatureExtractor.random(torch.device("cpu"))
    for data, name in (("30 % of labels", "emixer-30"), ("100 % of labels", "emixer")):
        (first, *_) = sorted((copied / "generators" / name / "dataset" / "data").iterdir())
        encoded = pq.read_table(first)["image"].to_pylist()[:64]
        made = np.stack([np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("L")) for image in encoded])
        sides = [
            FeatureStatistics.of(extractor(torch.from_numpy(np.array(images))[:, None])) for images in (real, made)
        ]
        assert float(rows[data]["mean"]) == pytest.approx(frechet_distance(*sides), rel=1e-4)
    networks = [tmp_path / name / "encoder.safetensors" for name in ("a", "b")]
    torch.manual_seed(0)
    for path in networks:
        write_encoder(path)
    by_a, by_b = (with_overrides(wanted, {"validation.encoder": TINY | {"weights": path}}) for path in networks)
    to_do = [line for line in experiment.describe(by_a).splitlines() if line.startswith("  to do")]
    assert len(to_do) == 3
    assert all(" distance S" in line for line in to_do), "downstream models know nothing of it"
    again = experiment.run(by_a)
    assert (again.computed, again.kept) == (3, 6)
    assert "FID by a at 32 px, 64 images per side." in again.filled.markdown()
    assert "0 of 9 cells to do" in experiment.describe(by_a)
    assert "3 of 9 cells to do" in experiment.describe(by_b), "other weights"


def test_table9_trains_on_generated_images_only(ray_cluster: None, config: Config, copied: Path) -> None:
    result = experiment.run(changed(config, copied, "table9"))
    assert (result.computed, result.kept) == (1, 1)
    real, made = table_rows(copied, "table9")
    assert real.startswith("| Only real | R30 | 0.")
    assert made.startswith("| EMIXER | S30 | 0.")
    assert "Test images with each disease: Atelectasis " in result.filled.markdown()


def test_figures_are_real_and_generated_samples_as_png_and_pdf(ray_cluster: None, config: Config, copied: Path) -> None:
    before = times(copied / "generators")
    wanted = changed(config, copied, "figures")
    assert "each as PNG and PDF" in experiment.describe(wanted)
    result = experiment.run(wanted)
    assert times(copied / "generators") == before
    names = sorted(path.name for path in (copied / "figures").iterdir())
    assert names == sorted(f"figure{n}.{kind}" for n in range(8, 13) for kind in ("png", "pdf"))
    assert sorted(path.name for path in result.paths) == names
    for n in range(8, 13):
        with Image.open(copied / "figures" / f"figure{n}.png") as picture:
            gray = np.asarray(picture.convert("L"))
        assert min(gray.shape) > 400
        assert gray.std() > 20, "images are on it"
        pdf = (copied / "figures" / f"figure{n}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        assert b"/FontFile2" in pdf, "text is text"
        assert b"/CreationDate" not in pdf
    images = np.arange(1024, dtype=np.uint8).reshape(4, 16, 16)
    first, again = (draw_images(images, "Four", columns=2) for _ in range(2))
    assert first == again, "the same pictures are the same files"


def test_figures_without_labels_are_refused_with_what_this_command_can_do(
    config: Config, make_shards: MakeShards, tmp_path: Path
) -> None:
    shards = make_shards(tmp_path, test=16)
    fill_column(shards, "test", "labels", None)
    given = SimpleNamespace(config=config, shards=ShardSet.open(shards), generators=("emixer",))
    with pytest.raises(ShardError, match=r"test split of .* has labels.* Ingest with label columns\.$"):
        draw_figures(cast(Experiment, given), Generated(tmp_path, (), tmp_path))


def test_real_images_are_matched_to_generated_ones_by_labels() -> None:
    wanted = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]], np.uint8)
    offered = np.array([[0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 1, 1]], np.uint8)
    assert alike(wanted, offered).tolist() == [1, 2, 0, 3], "no image twice, the nearest where none is the same"


def test_failed_cell_is_an_error_and_the_table_has_the_rest(ray_cluster: None, config: Config, copied: Path) -> None:
    (decoded,) = (copied / "decoded").iterdir()
    (decoded / "images.npy").write_bytes(b"cut short")
    with pytest.raises(UnfinishedError, match=r"1 of 2 cells of table2 failed:") as told:
        experiment.run(changed(config, copied, "table2"))
    assert "  pairs R30 + S90 emixer, seed 0: " in str(told.value)
    assert "is damaged" in str(told.value)
    assert str(copied / "tables" / "table2.md") in str(told.value)
    rows = table_rows(copied, "table2")
    assert "failed" not in rows[0]
    assert "| failed |" in rows[1]
    shutil.rmtree(decoded)
    mended = experiment.run(changed(config, copied, "table2"))
    assert (mended.computed, mended.kept) == (1, 1)
    assert not list((copied / "failures").iterdir())


def table_rows(out: Path, table: str) -> list[str]:
    """Return the rows of the written table, without header and notes."""
    lines = (out / "tables" / f"{table}.md").read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith(("| Method", "| ---"))]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (DivergenceError("losses are not finite"), "losses are not finite"),
        (RuntimeError("a bug"), "RuntimeError, traceback in "),
    ],
)
def test_failed_generator_fails_only_its_own_rows(
    ray_cluster: None, config: Config, copied: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    def fails(config: Config) -> None:
        assert config.model.kind == "cogan"
        raise error

    monkeypatch.setattr(experiment.train, "run", fails)
    wanted = changed(config, copied, "table2", experiment__methods=["cogan", "emixer"])
    with pytest.raises(UnfinishedError, match=r"1 of 3 cells of table2 failed") as told:
        experiment.run(wanted)
    assert f"  generator cogan: {why}" in str(told.value)
    assert ["| failed |" in row for row in table_rows(copied, "table2")] == [False, True, False]
    assert "fails" in (copied / "failures" / "generator-cogan.txt").read_text(), "its traceback"


def test_table_and_plan_list_the_diseases_in_each_mean(config: Config, shards: Path, tmp_path: Path) -> None:
    rare = shutil.copytree(shards, tmp_path / "rare")
    table = pq.read_table(rare / "test-00000.parquet")
    index, field = table.schema.get_field_index("labels"), table.schema.field("labels")
    edema = CHEXPERT.index("Edema")
    labels = [
        row and [*row[:edema], int(n < 3), *row[edema + 1 :]] for n, row in enumerate(table["labels"].to_pylist())
    ]
    rewritten(rare, table.set_column(index, field, pa.array(labels, field.type)))
    counts = sum(row is not None and row[CHEXPERT.index("Atelectasis")] for row in labels)
    told = experiment.describe(changed(config, tmp_path / "out", data__shards=rare))
    assert (
        f"AUC and ACC over Atelectasis {counts}; excluded: Edema 3 (fewer than 5 positive or negative test images)."
        in told
    )
    told = experiment.describe(changed(config, tmp_path / "out", "table9", data__shards=shards))
    assert re.search(r"Test images with each disease: Atelectasis \d+, Edema \d+\.\n", told)


def test_the_plan_of_a_gain_names_one_training_and_no_size_of_the_paper(
    config: Config, shards: Path, tmp_path: Path
) -> None:
    told = experiment.describe(changed(config, tmp_path / "out", "gain", data__shards=shards,
                                       experiment__real_pairs=[10], experiment__multiples=[1]))  # fmt: skip
    assert told.startswith("Would compute gain in")
    assert told.count("to train on") == 1
    assert "emixer-balanced of the model emixer; to generate" in told
    assert "sizes of the paper" not in told


@pytest.mark.thorough
def test_killed_experiment_resumes_from_its_last_cell(config: Config, copied: Path, tmp_path: Path) -> None:
    for path in (copied / "cells").iterdir():
        path.unlink()
    asked = {"ray.num_cpus": 1, "ray.object_store_mb": 100}
    (tmp_path / "table.yaml").write_text(to_yaml(with_overrides(changed(config, copied), asked)))
    command = [sys.executable, "-m", "emixer", "experiment", "table1", "--config", str(tmp_path / "table.yaml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) as killed:
        end = time.monotonic() + 600
        while not (done := list((copied / "cells").glob("*.json"))):
            assert killed.poll() is None, killed.stderr.read() if killed.stderr else ""
            assert time.monotonic() < end, "no cell was done"
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
    kept = len(list((copied / "cells").glob("*.json")))
    assert kept < 10
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=800).stdout
    assert f"{10 - kept} cells computed, {kept} reused." in shown
    assert done[0].exists()


def test_nothing_is_trained_or_selected_on_test_images(
    config: Config, filled: Path, make_shards: MakeShards, shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With other test images and all else equal, generator, pairs and downstream models are bit-identical."""
    other = make_shards(tmp_path / "shards", seed=1, train=96, validate=32, test=64)
    for split in ("train", "validate"):
        shutil.copy2(shards / f"{split}-00000.parquet", other)
    manifest, original = (json.loads((folder / "manifest.json").read_text()) for folder in (other, shards))
    kept = [entry for entry in original["shards"] if entry["split"] != "test"]
    manifest["shards"] = kept + [entry for entry in manifest["shards"] if entry["split"] == "test"]
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert sha256_of(ShardSet.open(other).files("test")[0]) != sha256_of(ShardSet.open(shards).files("test")[0])
    monkeypatch.setattr(experiment.train, "run", trained_here)
    with drawing_here():
        experiment.run(changed(config, tmp_path / "out", data__shards=other))

    def weights(out: Path) -> list[str]:
        return [sha256_of(path) for path in sorted((out / "generators").rglob("sampler.safetensors"))]

    def losses(out: Path) -> list[Any]:
        facts = [json.loads(path.read_text())["facts"] for path in (out / "cells").iterdir()]
        return sorted((fact["validation_loss"], fact["best_at_pairs"]) for fact in facts)

    def scores(out: Path) -> list[Any]:
        return sorted(str(json.loads(path.read_text())["figures"]) for path in (out / "cells").iterdir())

    assert weights(filled)
    assert weights(tmp_path / "out") == weights(filled)
    assert losses(tmp_path / "out") == losses(filled)
    assert scores(tmp_path / "out") != scores(filled), "tested on others"


def test_four_classes_are_learned_from_three_initialisations(
    ray_cluster: None, config: Config, copied: Path, shards: Path, tmp_path: Path
) -> None:
    covid = class_shards(shards, tmp_path / "covid")
    settings = {"experiment__covid": covid, "experiment__covid_classes": CLASSES}
    result = experiment.run(changed(config, copied, "table5", **settings))
    assert result.computed == 3
    rows = [line for line in result.filled.markdown().splitlines() if line.startswith("| pretrained")]
    assert len(rows) == 12
    assert "may only mean that a model separates those" in str(result)
    with pytest.raises(EmixerError, match=r"experiment\.covid is not set"):
        experiment.run(changed(config, copied, "table5"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experiment__out": None}, r"experiment\.out is not set"),
        (
            {"experiment__scale": 0.01},
            r"needs 1,000 real images in train; .* has 96\. Set experiment\.scale to at most",
        ),
        ({"experiment__diseases": ("Hernia",)}, r"has no label Hernia\. Choose experiment\.diseases from"),
        ({"experiment__runs": ("emixer=/nowhere",)}, r"/nowhere for emixer does not exist"),
        ({"experiment__table": "table9", "experiment__methods": ("smgan",)}, r"table9 has no rows for smgan"),
        ({"experiment__use_gpu": True}, r"the Ray cluster has no GPU"),
    ],
)
def test_bad_input_is_one_paragraph_before_anything_starts(
    ray_cluster: None, config: Config, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(EmixerError, match=message):
        experiment.run(changed(config, tmp_path / "out", **settings))
    assert not list(tmp_path.glob("out/generators"))


def test_shards_with_known_test_subjects_or_without_reports_are_refused(
    ray_cluster: None, config: Config, shards: Path, tmp_path: Path
) -> None:
    known, silent = (shutil.copytree(shards, tmp_path / name) for name in ("known", "silent"))
    table = pq.read_table(known / "test-00000.parquet")
    rewritten(known, table.set_column(2, "subject_id", pa.array(["train-1"] * table.num_rows)))
    with pytest.raises(EmixerError, match=r"1 subjects of the test split .* also have images in train or validate"):
        experiment.run(changed(config, tmp_path / "out", data__shards=known))
    for name in ("report", "sentences"):
        index = table.schema.get_field_index(name)
        table = table.set_column(
            index, table.schema.field(name), pa.nulls(table.num_rows, table.schema.field(name).type)
        )
    rewritten(silent, table)
    with pytest.raises(EmixerError, match=r"table1 needs reports, but no image in the test split .* has one"):
        experiment.run(changed(config, tmp_path / "out", data__shards=silent))


def rewritten(folder: Path, table: pa.Table, split: str = "test", info: ShardInfo | None = None) -> None:
    """Replace a shard, in the manifest too."""
    path = folder / f"{split}-00000.parquet"
    write_shard(path, table, info or read_shard_info(path), row_group_rows=16)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in manifest["shards"] if entry["name"] == path.name)
    entry |= {"num_bytes": path.stat().st_size, "sha256": sha256_of(path), "num_rows": table.num_rows}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def class_shards(shards: Path, folder: Path) -> Path:
    """Return the same images under other subjects, each of one of four classes."""
    shutil.copytree(shards, folder)
    for split in ("train", "validate", "test"):
        table = pq.read_table(folder / f"{split}-00000.parquet")
        info = ShardInfo(32, CLASSES, "findings", 1, "test")
        ids = pa.array([f"other-{split}-{n}" for n in range(table.num_rows)])
        table = table.set_column(table.schema.get_field_index("subject_id"), "subject_id", ids)
        one_hot = [[int(n % 4 == y) for y in range(4)] for n in range(table.num_rows)]
        labels = pa.array(one_hot, info.arrow_schema().field("labels").type)
        rewritten(folder, table.set_column(table.schema.get_field_index("labels"), "labels", labels), split, info)
    return folder


@pytest.fixture
def given(filled: Path, shards: Path, tmp_path: Path) -> Path:
    """A trained EMIXER run next to a copy of the shards it was trained on: `run`, `source`."""
    shutil.copytree(shards, tmp_path / "source")
    shutil.copytree(filled / "generators" / "emixer" / "run", tmp_path / "run", copy_function=shutil.copy2)
    written = tmp_path / "run" / "config.yaml"
    written.write_text(written.read_text().replace(str(shards), str(tmp_path / "source")))
    return tmp_path


def renamed(folder: Path, split: str, subjects: str, source: str = "tiny") -> None:
    """Assign the images of a split to other subjects: `subjects` followed by a number."""
    table = pq.read_table(folder / f"{split}-00000.parquet")
    for name, values in {
        "subject_id": [f"{subjects}{n}" for n in range(table.num_rows)],
        "source": [source] * table.num_rows,
    }.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    rewritten(folder, table, split)


def relabelled(folder: Path, split: str, labels: Callable[[int], list[int] | None]) -> None:
    table = pq.read_table(folder / f"{split}-00000.parquet")
    index, field = table.schema.get_field_index("labels"), table.schema.field("labels")
    rewritten(
        folder, table.set_column(index, field, pa.array([labels(n) for n in range(table.num_rows)], field.type)), split
    )


def refused(config: Config, given: Path, message: str, table: str = "table2", **settings: Any) -> None:
    with pytest.raises(EmixerError, match=message) as told:
        experiment.describe(changed(config, given / "out", table, **settings))
    assert "\n" not in str(told.value)
    assert not (given / "out").exists()


def write_encoder(path: Path) -> None:
    """Write an untrained encoder."""
    network = ChestEncoderConfig.model_validate(TINY)
    facts = EncoderFacts.of(network, label_names=("A",), collection="", sources=(), images=1, test_auc={})
    save_encoder_weights(path, ChestEncoder(network, num_labels=1), facts)


def test_encoder_of_another_size_is_refused_where_all_generators_are_given(config: Config, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder.safetensors")
    (tmp_path / "run").mkdir()
    refused(
        config, tmp_path, r"with input_px 32; the config has input_px 64\. Set validation\.encoder\.input_px=32,",
        experiment__runs=(f"emixer={tmp_path / 'run'}",),
        validation__encoder=TINY | {"input_px": 64, "weights": tmp_path / "encoder.safetensors"},
    )  # fmt: skip


def test_given_run_must_match_the_table_in_kind_size_and_labels(
    config: Config, given: Path, shards: Path, make_shards: MakeShards
) -> None:
    run = f"={given / 'run'}"
    assert "given run:" in experiment.describe(
        changed(config, given / "out", "table2", experiment__runs=(f"emixer{run}",))
    )
    cogan = {"experiment__methods": ("cogan",), "experiment__runs": (f"cogan{run}",)}
    refused(config, given, r"has model\.kind=emixer; cogan needs cogan\. Give another run", **cogan)
    limited = {"experiment__runs": (f"emixer-30{run}",)}
    refused(config, given, r"has data\.labelled_fraction=1\.0; emixer-30 needs 0\.3", "table3", **limited)
    with_part_of_the_labels(given / "run")
    refused(config, given, r"run kept the labels of other images than this version selects", "table3", **limited)
    with_part_of_the_labels(given / "run", before=0.3, now=1.0)
    (given / "small").mkdir()
    small = make_shards(given / "small", train=96, validate=32, test=64)
    for split in ("train", "validate", "test"):
        table = pq.read_table(small / f"{split}-00000.parquet")
        info = ShardInfo(16, CHEXPERT, "findings", 1, "test")
        images = pa.array([bytes(256)] * table.num_rows, pa.binary(256))
        rewritten(small, table.set_column(table.schema.get_field_index("image"), "image", images), split, info)
    sixteen = {"experiment__runs": (f"emixer{run}",), "data__shards": small}
    refused(config, given, r"has model\.side_px=32; emixer needs 16", **sixteen)
    classes = class_shards(shards, given / "other")
    unknown = sixteen | {"data__shards": classes, "experiment__diseases": ("A",)}
    refused(config, given, r"the model in .* has no label A\. Give a run trained with it", **unknown)


def with_part_of_the_labels(run: Path, before: float = 1.0, now: float = 0.3) -> None:
    """Edit the run's config to another labelled fraction, as if a version that drew other images had trained it."""
    written = run / "config.yaml"
    text = written.read_text()
    assert f"labelled_fraction: {before}" in text
    written.write_text(text.replace(f"labelled_fraction: {before}", f"labelled_fraction: {now}"))


def test_generator_trained_on_other_labelled_images_is_refused(config: Config, copied: Path) -> None:
    limited = (copied / "generators" / "emixer").rename(copied / "generators" / "emixer-30")
    with_part_of_the_labels(limited / "run")
    with pytest.raises(
        RunFolderError, match=r"emixer-30 in .* kept the labels of other images .* Delete .*emixer-30 to"
    ):
        experiment.describe(changed(config, copied, "table3"))


def test_training_data_of_a_given_run_is_compared_with_all_test_data(config: Config, given: Path, shards: Path) -> None:
    runs = {"experiment__runs": (f"emixer={given / 'run'}",)}
    known = shutil.copytree(shards, given / "known")
    for split in ("train", "validate"):
        renamed(known, split, f"other-{split}-")
    renamed(known, "test", "train-")
    refused(
        config, given, r"64 subjects of the test split of .*known are in train or validate", data__shards=known, **runs
    )
    covid = class_shards(shards, given / "covid")
    renamed(covid, "test", "train-")
    renamed(known, "test", "other-test-")
    settings = runs | {"data__shards": known, "experiment__covid": covid, "experiment__covid_classes": CLASSES}
    refused(config, given, r"64 subjects of the test split of .*covid are in train or validate of .*source", "table5",
            **settings)  # fmt: skip


def test_given_run_with_changed_shards_is_refused_and_with_missing_ones_noted(
    ray_cluster: None, config: Config, given: Path, make_shards: MakeShards
) -> None:
    source = given / "source"
    runs = {"experiment__runs": (f"emixer={given / 'run'}",)}
    make_shards(source, seed=1, train=96, validate=32, test=64)
    refused(config, given, r"the shards in .*source have changed since .*run was trained", data__shards=source, **runs)
    shutil.rmtree(source)
    wanted = changed(config, given / "out", "table2", **runs)
    caveat = "Whether the given run of emixer has seen test images is unknown"
    assert caveat in experiment.describe(wanted)
    with drawing_here():
        assert caveat in experiment.run(wanted).filled.csv()


def test_settings_that_a_table_would_ignore_are_refused(config: Config, given: Path) -> None:
    nowhere = {"experiment__runs": ("emixer-30=/nowhere",)}
    refused(config, given, r"/nowhere for emixer-30 does not exist", "table1", **nowhere)
    refused(config, given, r"table5 uses only emixer", "table5", experiment__methods=("cogan",))
    refused(config, given, r"beyond names cogan, not in experiment\.methods=emixer", "table1",
            experiment__beyond=("cogan",))  # fmt: skip


def test_generators_of_a_method_have_its_settings(config: Config, tmp_path: Path) -> None:
    lines = [
        "jointgan loss.joint=0.5",
        "jointgan model.joint_discriminator.channels=4",
        "smgan model.decoder_share=0.6",
    ]
    wanted = changed(config, tmp_path / "out", experiment__methods=["jointgan", "smgan", "emixer"],
                     experiment__method_settings=lines)  # fmt: skip
    checked = plan.checked(wanted)
    jointgan, smgan, emixer = (checked.generator_config(name) for name in ("jointgan", "smgan", "emixer"))
    assert isinstance(jointgan.model, JointganModelConfig)
    assert isinstance(smgan.model, SmganModelConfig)
    assert (jointgan.loss.joint, jointgan.model.joint_discriminator.channels) == (0.5, 4)
    assert (smgan.loss.joint, smgan.model.decoder_share) == (config.loss.joint, 0.6)
    assert emixer.model == config.model
    refused(config, tmp_path, r"loss\.joints", "table1", experiment__methods=["jointgan", "emixer"],
            experiment__method_settings=["jointgan loss.joints=0.5"])  # fmt: skip
    with pytest.raises(EmixerError, match="'jointgan' is not METHOD KEY=VALUE"):
        changed(config, tmp_path, experiment__method_settings=["jointgan"])
    for line in ("jointgan data.shards=/elsewhere", "jointgan seed=1", "jointgan model.kind=cogan"):
        with pytest.raises(EmixerError, match=r"is not a setting of model, loss, optim, train\. All methods"):
            changed(config, tmp_path, experiment__method_settings=[line])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model__side_px": 64}, r"model\.side_px=64, but the images in .* have 32 px"),
        ({"train__batch_size": 15, "train__num_workers": 2}, r"batch_size=15 cannot be split"),
        ({"model__report_decoder__encoder__weights": "/nowhere.pt"}, r"encoder\.weights=/nowhere\.pt does not exist"),
        ({"generate__rows_per_group": 24}, r"generate\.rows_per_group=24 is not a multiple of generate\.batch_size=16"),
        (
            {"validation__encoder": TINY | {"weights": "/nowhere.pt"}},
            r"validation\.encoder\.weights=/nowhere\.pt does not exist",
        ),
        ({"experiment__diseases": ("Hernia",)}, r"has no label Hernia"),
    ],
)
def test_plan_reports_what_would_stop_training_later(
    config: Config, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    refused(config, tmp_path, message, "table1", **settings)


def test_plan_reports_a_folder_that_cannot_be_written(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"Cannot write .*file/out: Not a directory"):
        experiment.describe(changed(config, tmp_path / "file" / "out"))


def test_labels_too_rare_to_measure_are_reported_with_their_counts(
    config: Config, shards: Path, tmp_path: Path
) -> None:
    normal = shutil.copytree(shards, tmp_path / "normal")
    relabelled(normal, "test", lambda n: [int(n < 4)] * 14)
    refused(config, tmp_path, r"No disease can be measured on the 64 labelled .* positive: Atelectasis 4, Edema 4\.",
            data__shards=normal)  # fmt: skip
    relabelled(normal, "validate", lambda n: None)
    refused(config, tmp_path, r"No image in the validate split of .* has labels", data__shards=normal)


def test_classes_must_be_exclusive_in_every_split_and_of_held_out_subjects(
    config: Config, shards: Path, tmp_path: Path
) -> None:
    covid = class_shards(shards, tmp_path / "covid")
    settings = {"experiment__covid": covid, "experiment__covid_classes": CLASSES}
    renamed(covid, "test", "train-")
    refused(config, tmp_path, r"64 subjects of the test split of .*covid are in train or validate of", "table5",
            **settings)  # fmt: skip
    relabelled(covid, "validate", lambda n: [1, 0, 0, 0])
    refused(config, tmp_path, r"The validate split of .* has no image of class B, C, D", "table5", **settings)
    relabelled(covid, "train", lambda n: [1, int(n < 7), 0, 0])
    refused(config, tmp_path, r"7 of 96 images in the train split of .* have none or several", "table5", **settings)


def test_folder_is_bound_to_its_training_and_its_pairs_serve_smaller_tables(config: Config, copied: Path) -> None:
    for settings, message in (
        ({"experiment__scale": 4e-4}, r"holds 180 pairs, and table1 needs 240 with these settings\. Set smaller"),
        ({"train__images": 64}, r"was trained on 32 images; train\.images is now 64"),
        ({"loss__alpha": 0.5}, r"loss\.alpha: 0\.2 there, 0\.5 now"),
    ):
        with pytest.raises(EmixerError, match=message):
            experiment.describe(changed(config, copied, **settings))
    assert "dataset exists" in experiment.describe(changed(config, copied, experiment__scale=2e-4)), "its first rows"


def test_generator_that_is_trained_further_than_asked_is_refused(config: Config, tmp_path: Path) -> None:
    wanted = changed(config, tmp_path / "out")
    run = tmp_path / "out/generators/emixer/run"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/experiment.json").write_text('{"experiment_version": 1}')
    RunFolder.create_or_resume(run, "train", plan.checked(wanted).generator_config("emixer"))
    save_checkpoint(run / "checkpoints", 96, {}, {})
    assert "to train on 0 images" in experiment.describe(with_overrides(wanted, {"train.images": 65})), "steps of 32"
    with pytest.raises(RunFolderError, match=r"emixer in .* was trained on 96 images; train\.images is now 64\. "):
        experiment.describe(with_overrides(wanted, {"train.images": 64}))


def test_pairs_that_were_screened_in_another_way_are_refused(config: Config, shards: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "out/generators/emixer/dataset"
    dataset.mkdir(parents=True)
    (tmp_path / "out/experiment.json").write_text('{"experiment_version": 1}')
    manifest = {
        "manifest_version": 1, "complete": True, "rows": 180, "files": [], "fingerprint": "f", "settings": {"seed": 0}
    }  # fmt: skip
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    wanted = changed(config, tmp_path / "out")
    assert "dataset exists" in experiment.describe(wanted)
    with pytest.raises(RunFolderError, match=r"audit_false_alarm: None there, 0\.01 now"):
        experiment.describe(with_overrides(wanted, {"generate.audit": shards}))
    settings = {"audit_shards_digest": "d", "audit_false_alarm": 0.01, "audit_span_words": 6}
    (dataset / "manifest.json").write_text(json.dumps(manifest | {"settings": settings}))
    with pytest.raises(RunFolderError, match=r"audit_false_alarm: 0\.01 there, None now"):
        experiment.describe(wanted)


def test_concurrent_experiments_and_oversized_cells_are_refused(
    ray_cluster: None, config: Config, copied: Path
) -> None:
    with alone_in(copied, "experiment"), pytest.raises(EmixerError, match="Another `emixer experiment`"):
        experiment.run(changed(config, copied))
    with pytest.raises(EmixerError, match=r"has 2 CPUs here but needs 64 to start: experiment.cpus_per_cell=64"):
        experiment.run(changed(config, copied, experiment__cpus_per_cell=64))
