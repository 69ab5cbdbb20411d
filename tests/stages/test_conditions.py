"""Sex, age and view from the shards to an evaluation split by them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from emixer.config import Config, with_overrides
from emixer.config.experiment import ExperimentConfig
from emixer.data.known_of_images import find_conditions
from emixer.data.loader import BatchStream, open_windows, read_ahead
from emixer.data.order import Position
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError
from emixer.experiments.tables import table_of
from emixer.generation.sampler import load
from emixer.stages import evaluate, generate, train
from emixer.stages.experiment.checks import require_rows
from emixer.stages.model_spec import model_spec
from emixer.stages.validation_pass import prepare_validator
from tests.answers import answer_of
from tests.here import drawing_here

AGES = (18, 40, 60, 80)
MakeShards = Callable[..., Path]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(make_shards: MakeShards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("people"), known=True, train=128, validate=96, test=16)


@pytest.fixture
def config(tiny_config: Config, shards: Path) -> Config:
    reads = {"model.conditions": ["sex", "age", "view"], "model.report_decoder.reads": "image-and-labels"}
    return with_overrides(tiny_config, {"data.shards": shards, "train.images": 64, **reads})


@pytest.fixture
def run(config: Config, train_locally: Callable[..., Any], tmp_path: Path) -> Path:
    path: Path = train_locally(config, tmp_path / "run").folder.path
    return path


@pytest.mark.ray
def test_batches_read_by_ray_have_the_conditions(config: Config, shards: Path, ray_cluster: None) -> None:
    opened = ShardSet.open(shards)
    reader = open_windows(
        opened, "train", config.data, 0, 4, 6, conditions=find_conditions(opened, ("sex", "age", "view"), AGES)
    )
    here = BatchStream(reader, 16, Position(1), 0, lambda numbers: map(reader.read, numbers), 32)
    there = BatchStream(reader, 16, Position(1), 0, partial(read_ahead, reader, num_tasks=1), 32)
    for _ in range(2):
        ours, theirs = next(here), next(there)
        assert ours.labels.shape == (16, 14 + 2 + 4 + 3)
        for name in ("image", "labels", "known", "labelled"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_samples_follow_the_requested_conditions(run: Path) -> None:
    sampler = load(run, device="cpu", batch_size=16)
    assert sampler.conditions == {
        "sex": ("F", "M"), "age": ("18-39", "40-59", "60-79", "80+"), "view": ("AP", "LATERAL", "PA"),
    }  # fmt: skip
    assert "sex: F, M; age: 18-39" in repr(sampler)
    pairs = sampler.sample(labels=["Edema"], sex="F", age=63, view="PA", num=3, seed=1)
    assert {name: set(values) for name, values in pairs.conditions.items()} == {
        "sex": {"F"}, "age": {"60-79"}, "view": {"PA"},
    }  # fmt: skip
    assert "0  Edema, F, 60-79, PA: " in repr(pairs)
    assert pairs.labels.shape == (3, 14)
    man = sampler.sample(labels=["Edema"], sex="M", age=63, view="PA", num=3, seed=1)
    assert (pairs.images != man.images).any(axis=(1, 2)).all()
    drawn = sampler.sample(num=200, seed=1)
    assert set(drawn.conditions["sex"]) == {"F", "M", None}
    given = np.zeros((2, 14), int)
    assert set(sampler.sample(given, view="AP").conditions["view"]) == {"AP"}


def test_model_without_conditions_refuses_a_condition(tiny_run: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"not conditioned on sex.*It is conditioned only on labels.*model\.conditions"
    ):
        load(tiny_run, device="cpu").sample(labels=["Edema"], sex="F")


@pytest.mark.ray
def test_dataset_has_condition_columns_and_evaluation_is_split_by_them(
    config: Config, run: Path, shards: Path, ray_cluster: None, tmp_path: Path
) -> None:
    out = tmp_path / "dataset"
    settings = {
        "generate.run": run, "generate.out": out, "generate.num": 96, "generate.batch_size": 16,
        "generate.rows_per_group": 32, "generate.rows_per_file": 96, "generate.balance_by": ["sex"],
        "generate.view": "PA", "generate.seed": 5,
    }  # fmt: skip
    with drawing_here():
        result = generate.run(with_overrides(config, settings))
    table = pq.read_table(result.folder / "data")
    assert table["sex"].to_pylist() == ["M", "F"] * 48
    assert set(table["view"].to_pylist()) == {"PA"}
    assert set(table["age"].to_pylist()) == {"18-39", "40-59", "60-79", "80+"}
    assert answer_of(result)["figures"]["conditions"]["sex"] == result.condition_counts["sex"] == {"F": 48, "M": 48}
    card = (out / "README.md").read_text()
    assert "| `sex` | F or M that the row was conditioned on; null: none |" in card
    assert "| F | 48 | 50.0% |" in card
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["sex"] == {"dtype": "string", "_type": "Value"}

    values = {"evaluate.dataset": out, "evaluate.split": "validate", "evaluate.resamples": 20}
    content = evaluate.run(with_overrides(config, values | {"evaluate.by": ["sex", "view"]})).content
    real = pq.read_table(ShardSet.open(shards).files("validate")[0]).slice(0, 96)
    by_sex = content["by"]["sex"]
    assert by_sex["groups"]["F"]["images"] == {"generated": 48, "real": real["sex"].to_pylist().count("F")}
    assert by_sex["not_known"] == {"generated": 0, "real": real["sex"].null_count}
    group = by_sex["groups"]["F"]
    assert group["fid"] > group["real_fid"] > 0
    assert {name.split("/")[1] for name in group["real"] if "label_auc/" in name} >= set(
        by_sex["means_over"]["label_auc"]
    )
    low, high = group["intervals"]["real"]["label_auc"]
    assert 0 < low <= group["real"]["label_auc"] <= high <= 1
    num_ap = real["view"].to_pylist().count("AP")
    assert content["by"]["view"]["groups"]["AP"] == {
        "images": {"generated": 0, "real": num_ap}, "too_few": 20,
        "shown": {"real": content["by"]["view"]["groups"]["AP"]["shown"]["real"]},
    }  # fmt: skip
    assert content["by"]["view"]["groups"]["LATERAL"]["shown"]["real"]["auc"] > 0.9  # its images have their own stripe
    page = (out.with_name(f"{out.name}-evaluation") / "evaluation.md").read_text()
    assert "## By sex" in page
    assert "not measured: fewer than 20 images per side" in page
    _without_conditions(out)
    asked = with_overrides(config, values | {"evaluate.by": ["age"]})
    with pytest.raises(ConfigError, match=r"evaluate\.by names age, but the pairs in .* were not conditioned on it"):
        evaluate.describe(asked)


def _without_conditions(dataset: Path) -> None:
    path = dataset / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["conditions"]
    path.write_text(json.dumps(manifest))


def test_validation_pass_measures_labels_only(config: Config, run: Path, shards: Path) -> None:
    opened = ShardSet.open(shards)
    reader = open_windows(opened, "train", config.data, 0, 4, 6, conditions=find_conditions(opened, ("sex",), AGES))
    spec = model_spec(opened, reader)
    validator = prepare_validator(config, spec, reader, CPU)
    assert validator.labels_NL.shape == (32, 14)
    assert validator.batches[0].labels_BY.shape[1] == 16
    plain = prepare_validator(config, model_spec(opened, open_windows(opened, "train", config.data, 0, 4, 6)),
                              open_windows(opened, "train", config.data, 0, 4, 6), CPU)  # fmt: skip
    assert validator.real == plain.real


def test_training_names_conditions_missing_from_the_shards(tiny_config: Config, tmp_path: Path) -> None:
    config = with_overrides(tiny_config, {"model.conditions": ["sex"], "train.run": tmp_path / "run"})
    with pytest.raises(ShardError, match=r"model\.conditions names sex, which no training image in .* has"):
        train.check(config)
    planned = train.describe(with_overrides(config, {"model.conditions": ["view"]}))
    assert "conditions  view (PA)" in planned


@pytest.fixture(scope="module")
def spanish(make_shards: MakeShards, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards whose metadata declare the reports Spanish, although they have sentences."""
    folder = make_shards(tmp_path_factory.mktemp("spanish"), train=32, validate=32)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["shards"]:
        path = folder / entry["name"]
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"emixer"]) | {"report_language": "es"}
        pq.write_table(table.replace_schema_metadata({b"emixer": json.dumps(about)}), path, row_group_size=16)
        entry["num_bytes"] = path.stat().st_size
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.ray
def test_non_english_reports_are_counted_but_never_scored(
    spanish: Path, tiny_config: Config, tiny_run: Path, ray_cluster: None, tmp_path: Path
) -> None:
    config = with_overrides(
        tiny_config,
        {
            "data.shards": spanish, "generate.run": tiny_run, "generate.out": tmp_path / "made", "generate.num": 32,
            "generate.batch_size": 16, "generate.rows_per_group": 32, "generate.rows_per_file": 32,
            "evaluate.dataset": tmp_path / "made", "evaluate.split": "validate", "evaluate.resamples": 20,
            "train.run": tmp_path / "run",
        },
    )  # fmt: skip
    with drawing_here():
        generate.run(config)
    result = evaluate.run(config)
    num = len(pq.read_table(ShardSet.open(spanish).files("validate")[0], columns=["report"])["report"].drop_null())
    assert result.content["reports_not_read"] == {"real": num, "language": "es"}
    assert f"{num} real reports were not labelled: they are in the language 'es'" in str(result)
    assert "real" not in result.content["reports"]
    assert "pair_agreement" not in result.content["pairs"]["real"]
    assert result.content["reports"]["generated"]["words_per_report"] > 0

    opened = ShardSet.open(spanish)
    reader = open_windows(opened, "train", config.data, 0, 4, 6)
    spec = model_spec(opened, reader)
    validator = prepare_validator(config, spec, reader, CPU)
    assert not [name for name in validator.real if name.startswith(("report_", "pair_agreement"))]
    assert "words_per_report_real" in validator.real
    assert "reports     in unsupported language 'es'" in train.describe(config)
    with pytest.raises(ShardError, match=r"table2 needs English reports; those in .* are in the language 'es'"):
        require_rows(opened, table_of(ExperimentConfig(table="table2", scale=1e-4), 1000))
