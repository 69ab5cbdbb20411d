"""What the generation of a table's pairs would refuse is refused before its generators are trained. Given runs, and
their shards, that may not be read."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emixer.config import Config, with_overrides
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, RunFolderError, ShardError, StorageError
from emixer.experiments.tables import table_of
from emixer.generation.generation_plan import plan_generation
from emixer.generation.manifest import begin_manifest
from emixer.generation.trained_model import read_trained_model
from emixer.run_folder import RunFolder
from emixer.stages import experiment, generate
from emixer.stages.experiment import checks, plan
from tests.closed import closed, open_folder
from tests.here import drawing_here, trained_here

TABLE9 = {
    "experiment.table": "table9", "experiment.scale": 3e-4, "experiment.seeds": [0], "experiment.methods": ["emixer"],
    "experiment.beyond": [], "experiment.diseases": ["Atelectasis"], "experiment.real_pairs": [16],
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generate.plan": "typo.csv"}, r"generate\.plan=typo\.csv is neither"),
        ({"generate.plan": "blocks.csv"}, r"blocks\.csv lists rows in order"),
        ({"generate.sex": "F"}, "sex"),
        ({"generate.labels": ["Edema"], "experiment.table": "gain"}, r"generate\.labels and generate\.plan=balanced"),
        ({"generate.audit": "/nowhere"}, "There is no folder"),
        ({"generate.audit": "the shards"}, "false_alarm"),
        ({"generate.audit": "the shards", "experiment.table": "gain", "experiment.generators_from": "real"},
         r"Unset generate\.audit"),
    ],
)  # fmt: skip
def test_pairs_that_could_not_be_generated_are_refused_by_the_dry_run(
    tiny_config: Config, make_shards: Callable[..., Path], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    shards = make_shards(tmp_path / "shards", train=96, validate=32, test=64)
    common = TABLE9 | {"experiment.out": tmp_path / "out", "data.shards": shards}
    if settings.get("generate.plan") == "blocks.csv":
        (tmp_path / "blocks.csv").write_text("Edema,Atelectasis,count\n1,0,100\n0,1,100\n")
        settings = {"generate.plan": str(tmp_path / "blocks.csv")}
    if settings.get("generate.audit") == "the shards":
        settings = {**settings, "generate.audit": shards}
    with pytest.raises((ConfigError, ShardError), match=message):
        experiment.describe(with_overrides(tiny_config, common | settings))


def test_pairs_that_were_begun_with_other_settings_are_refused_by_the_dry_run(
    tiny_config: Config, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    shards = make_shards(tmp_path / "shards", train=96, validate=32, test=64)
    short = {"train.images": 32, "train.save_every_images": 32, "train.sample_every_images": 10**6}
    where = {"experiment.out": tmp_path / "out", "data.shards": shards}
    config = with_overrides(tiny_config, TABLE9 | short | where)
    own = plan.checked(config).generator_config("emixer")
    assert own.train.run is not None
    assert own.generate.out is not None
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "experiment.json").write_text('{"experiment_version": 1}')
    trained_here(own)
    own.generate.out.mkdir()
    begin_manifest(own.generate.out, plan_generation(own.generate, read_trained_model(own.train.run))("cpu").settings)
    assert "to generate 180 pairs" in experiment.describe(config)
    with pytest.raises(RunFolderError, match=r"belongs to another dataset:(.|\n)*num: 180 there, 60 now"):
        experiment.describe(with_overrides(config, {"experiment.scale": 1e-4}))


def test_pairs_of_the_given_run_that_were_made_before_are_used_where_they_are_linked(
    ray_cluster: None, tiny_config: Config, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    shards, run, pairs = (
        make_shards(tmp_path / "shards", train=96, validate=32, test=64),
        tmp_path / "run",
        tmp_path / "a",
    )
    short = {"train.images": 32, "train.save_every_images": 32, "train.sample_every_images": 10**6}
    config = with_overrides(tiny_config, TABLE9 | short | {"data.shards": shards, "experiment.out": tmp_path / "out"})
    trained_here(with_overrides(config, {"train.run": run}))
    with drawing_here():
        generate.run(with_overrides(config, {"generate.run": run, "generate.out": pairs, "generate.num": 200}))
    place = tmp_path / "out" / "generators" / "emixer"
    place.mkdir(parents=True)
    (place / "dataset").symlink_to(pairs)
    given = with_overrides(config, {"experiment.runs": [f"emixer={run}"]})
    assert f"dataset exists: {place / 'dataset'}" in experiment.describe(given)
    with pytest.raises(RunFolderError, match="seed"):
        experiment.describe(with_overrides(given, {"generate.seed": 7}))


def test_shards_of_a_given_run_that_may_not_be_read_cannot_be_compared(
    tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_folder() as folder:
        theirs = folder / "theirs"
        (theirs / "shards").mkdir(parents=True)
        (theirs / "run").mkdir()
        config = with_overrides(tiny_config, {"data.shards": theirs / "shards"})
        run = RunFolder.create_or_resume(folder / "run", "train", config).path
        trained = SimpleNamespace(config=config.model, run_folder=run, spec=SimpleNamespace(label_names=()))
        monkeypatch.setattr(checks, "read_trained_model", lambda *_: trained)
        shards = cast(ShardSet, SimpleNamespace(info=SimpleNamespace(side_px=config.model.side_px)))
        given = with_overrides(config, TABLE9 | {"experiment.runs": [f"emixer={theirs / 'run'}"]}).experiment
        with closed(theirs):
            assert not checks.require_fitting(run, "emixer", config, shards, (), ())
            with pytest.raises(StorageError, match="No permission to read"):
                plan._require_used(given, table_of(given, 96), ["emixer"])
