"""`emixer encoder` as a user runs it, and the uses of its file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from emixer.checkpoint import save_checkpoint
from emixer.cli.main import main
from emixer.config import Config, to_yaml, with_overrides
from emixer.data.collection import identify
from emixer.data.labels import CHEXPERT
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, RunFolderError
from emixer.models.encoder_facts import EncoderFacts, read_encoder_facts
from emixer.models.encoder_weights import save_encoder_weights
from emixer.run_folder import RunFolder
from emixer.stages import encoder, train
from emixer.stages.encoder.plan import make_encoder_plan
from emixer.training.plan import train_from_last
from tests.answers import answer_of
from tests.here import trained_here

NETWORK = {"growth": 4, "blocks": [1, 1, 1, 1], "stem_channels": 8, "input_px": 32}


@pytest.fixture(scope="module")
def small(tiny_config: Config) -> Config:
    network = {f"encoder.network.{name}": value for name, value in NETWORK.items()}
    schedule = {
        "encoder.images": 192, "encoder.batch_size": 16, "encoder.log_every_images": 64,
        "encoder.validate_every_images": 96, "encoder.save_every_images": 96,
    }  # fmt: skip
    return with_overrides(tiny_config, network | schedule)


@pytest.fixture(scope="module")
def trained(ray_cluster: None, small: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file written by two Ray workers."""
    run = tmp_path_factory.mktemp("encoders") / "tiny-encoder"
    result = encoder.run(with_overrides(small, {"encoder.run": run, "encoder.num_workers": 2}))
    assert result.images == 192
    assert "AUC on validate" in str(result)
    return run / "encoder.safetensors"


@pytest.mark.ray
def test_file_states_its_facts_and_its_evaluation_is_written(trained: Path) -> None:
    facts = read_encoder_facts(trained)
    assert facts is not None
    assert (facts.growth, facts.blocks, facts.stem_channels, facts.input_px) == (4, (1, 1, 1, 1), 8, 32)
    assert facts.label_names == CHEXPERT
    assert facts.sources == ("tiny",)
    assert facts.images == 192
    evaluation = json.loads((trained.parent / "evaluation.json").read_text())
    assert set(evaluation) == {"validate", "test"}
    rows = evaluation["validate"]["labels"]
    assert rows
    assert all(0 <= row["low"] <= row["auc"] <= row["high"] <= 1 for row in rows.values())
    measured = [line for line in RunFolder(trained.parent).metrics() if "validation/auc" in line]
    assert [line["images"] for line in measured] == [96, 192]
    best = max(line["validation/auc"] for line in measured)
    mean = evaluation["validate"]["mean"]
    assert mean["auc"] == pytest.approx(best, abs=1e-6), "the best encoder is the one kept"
    assert set(mean) == {"auc", "low", "high"}, "no images are the mean's own, to be counted"


def times(run: Path) -> dict[Path, int]:
    """Return the modification times of all files that training writes; the config is rewritten at each start."""
    written = (path for path in run.rglob("*") if path.is_file() and path.name not in ("config.yaml", "run.json"))
    return {path: path.stat().st_mtime_ns for path in written}


@pytest.mark.ray
def test_same_command_again_does_nothing(trained: Path, small: Config) -> None:
    before = times(trained.parent)
    again = encoder.run(with_overrides(small, {"encoder.run": trained.parent, "encoder.num_workers": 2}))
    assert (again.images, set(again.evaluation)) == (192, {"validate", "test"})
    told = answer_of(again)
    assert told["outcome"] == "nothing to do"
    assert told["figures"]["auc"]["validate"]["mean"] == again.evaluation["validate"]["mean"]
    assert times(trained.parent) == before


@pytest.mark.ray
def test_run_killed_before_writing_its_file_writes_the_same_file(
    trained: Path, small: Config, tiny_shards: Path, tmp_path: Path
) -> None:
    run = tmp_path / trained.parent.name
    shutil.copytree(trained.parent, run)
    for name in ("encoder.safetensors", "evaluation.json"):
        (run / name).unlink()
    shards = ShardSet.open(tiny_shards)
    plan = make_encoder_plan(small, shards, run, identify(shards))
    train_from_last(plan, torch.device("cpu"), lambda windows: map(plan.reader.read, windows))
    for name in ("encoder.safetensors", "evaluation.json"):
        assert (run / name).read_bytes() == (trained.parent / name).read_bytes()


@pytest.mark.ray
def test_encoder_serves_as_report_encoder_fid_features_and_judge_in_training(
    trained: Path, tiny_config: Config, tmp_path: Path
) -> None:
    eyes = {f"model.report_decoder.encoder.{name}": value for name, value in NETWORK.items()}
    eyes |= {"model.report_decoder.encoder.weights": trained, "model.report_decoder.encoder.frozen": True}
    judge: dict[str, Any] = {"validation.encoder": {**NETWORK, "weights": trained}, "validation.judge": "encoder"}
    config = with_overrides(tiny_config, {**eyes, **judge, "train.run": tmp_path / "run", "train.images": 64})
    with pytest.raises(ConfigError, match=r"trained on the collection of these shards \(tiny\)"):
        train.describe(config)
    config = with_overrides(config, {"model.report_decoder.encoder.same_collection": True})
    trained_here(config)
    measured = RunFolder(tmp_path / "run").metrics()[-1]
    assert measured["validation/fid_tiny_encoder"] > 0
    assert measured["validation/label_auc_real"] == pytest.approx(
        json.loads((trained.parent / "evaluation.json").read_text())["validate"]["mean"]["auc"], abs=0.06
    ), "the same encoder on the same images; labels that are uncertain or unmentioned aside"
    state = safetensors.torch.load_file(
        tmp_path / "run" / "checkpoints" / "images-000000000064" / "networks.safetensors"
    )
    name = "features.conv0.weight"
    assert torch.equal(state[f"report_decoder.encoder.{name}"], safetensors.torch.load_file(trained)[name])


def written(path: Path, **changes: Any) -> Path:
    """Write an encoder file with other facts."""
    facts = EncoderFacts(
        growth=4, blocks=(1, 1, 1, 1), stem_channels=8, input_px=32, label_names=CHEXPERT, collection="another",
        sources=("another",), images=1, test_auc={},
    )  # fmt: skip
    save_encoder_weights(path, torch.nn.Linear(1, 1), EncoderFacts(**vars(facts) | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        (
            {"growth": 12, "blocks": (2, 4, 4, 2)},
            {"model.report_decoder.encoder.growth": 4},
            r"is an encoder with growth 12, blocks \(2, 4, 4, 2\); the config has growth 4, blocks \(1, 1, 1, 1\)\. "
            r"Set model\.report_decoder\.encoder\.growth=12 model\.report_decoder\.encoder\.blocks=\[2,4,4,2\]",
        ),
        (
            {"label_names": ("Mass", "Nodule")},
            {"validation.judge": "encoder"},
            "has the labels Mass, Nodule; none of them is a label of the shards",
        ),
    ],
)
def test_mismatched_file_is_refused_with_the_settings_to_change(
    tiny_config: Config, tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    file = written(tmp_path / "other.safetensors", **changes)
    encoders = {"model.report_decoder.encoder.weights": file, "validation.encoder": {**NETWORK, "weights": file}}
    config = with_overrides(tiny_config, {**encoders, **settings, "train.run": tmp_path / "run"})
    with pytest.raises(ConfigError, match=message):
        train.describe(config)


def test_judge_without_label_names_is_refused(tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a file written by `emixer encoder`"):
        train.describe(with_overrides(tiny_config, {"validation.judge": "encoder", "train.run": tmp_path / "run"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder.network.frozen": True, "encoder.network.weights": "/x"}, "a frozen encoder cannot be trained"),
        ({"encoder.network.weights": "/nowhere.safetensors"}, "does not exist"),
        ({"encoder.num_workers": 3}, r"encoder\.batch_size=16 cannot be split over 3"),
        ({"encoder.run": None}, r"encoder\.run is not set"),
    ],
)
def test_invalid_settings_are_refused_before_training_starts(
    small: Config, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder.describe(with_overrides(small, {"encoder.run": tmp_path / "run", **settings}))
    assert not (tmp_path / "run").exists()


def test_dry_run_shows_the_labels(small: Config, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(small))
    result = CliRunner().invoke(main, ["encoder", "--config", str(file), "--run", str(tmp_path / "run"), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "96 images in train, 32 in validate, 16 in test" in result.output
    assert "Pleural Effusion" in result.output
    assert not (tmp_path / "run").exists()


def test_dry_run_refuses_a_folder_that_the_run_would(small: Config, tmp_path: Path) -> None:
    config = with_overrides(small, {"encoder.run": tmp_path})
    (tmp_path / "1.jpg").write_bytes(b"a radiograph")
    with pytest.raises(RunFolderError, match="is not empty and not a run folder"):
        encoder.describe(config)
    (tmp_path / "1.jpg").unlink()
    RunFolder.create_or_resume(tmp_path, "encoder", with_overrides(config, {"seed": 5}))
    with pytest.raises(RunFolderError, match="seed: 5 there, 0 now"):
        encoder.describe(config)


def test_run_on_other_shards_is_refused(small: Config, tmp_path: Path, make_shards: Callable[..., Path]) -> None:
    config = with_overrides(small, {"encoder.run": tmp_path / "run"})
    assert config.data.shards is not None
    RunFolder.create_or_resume(tmp_path / "run", "encoder", config, ShardSet.open(config.data.shards).digest())
    other = with_overrides(
        config, {"data.shards": make_shards(tmp_path / "other", seed=1, train=96, validate=32, test=16)}
    )
    for start in (encoder.describe, encoder.run):
        with pytest.raises(RunFolderError, match=r"other images than those in .*/other"):
            start(other)
    moved = shutil.copytree(config.data.shards, tmp_path / "moved")
    assert "new run" in encoder.describe(with_overrides(config, {"data.shards": moved}))


def test_dry_run_says_when_nothing_is_left_to_do(small: Config, tmp_path: Path) -> None:
    config = with_overrides(small, {"encoder.run": tmp_path})
    folder = RunFolder.create_or_resume(tmp_path, "encoder", config)
    save_checkpoint(folder.checkpoints, 192, {}, {})
    (tmp_path / "encoder.safetensors").touch()
    assert "(resumes at 192 images)" in encoder.describe(config), "the evaluation is yet to be written"
    (tmp_path / "evaluation.json").touch()
    assert "(nothing to do: trained on 192 images)" in encoder.describe(config)
