"""What the generation of a table's pairs would refuse is refused before its generators are trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emixer.config import Config, with_overrides
from emixer.errors import ConfigError, ShardError
from emixer.stages import experiment


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
    common = {
        "experiment.out": tmp_path / "out", "experiment.table": "table9", "experiment.scale": 3e-4,
        "experiment.seeds": [0], "experiment.methods": ["emixer"], "experiment.beyond": [],
        "experiment.diseases": ["Atelectasis"], "experiment.real_pairs": [16], "data.shards": shards,
    }  # fmt: skip
    if settings.get("generate.plan") == "blocks.csv":
        (tmp_path / "blocks.csv").write_text("Edema,Atelectasis,count\n1,0,100\n0,1,100\n")
        settings = {"generate.plan": str(tmp_path / "blocks.csv")}
    if settings.get("generate.audit") == "the shards":
        settings = {**settings, "generate.audit": shards}
    with pytest.raises((ConfigError, ShardError), match=message):
        experiment.describe(with_overrides(tiny_config, common | settings))
