"""Configs that come with emixer."""

from pathlib import Path

import pytest

from emixer.config import load_config
from emixer.config.packaged import find_config, packaged_configs
from emixer.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_each_file_in_configs_has_a_name() -> None:
    files = {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert set(packaged_configs()) == files
    assert {"demo", "paper", "baselines/cogan"} <= files


def test_a_name_is_its_file_and_a_path_stays_a_path() -> None:
    assert load_config(find_config("demo")) == load_config(ROOT / "configs" / "demo.yaml")
    assert find_config("./demo") == Path("demo")
    assert find_config("configs/demo.yaml") == Path("configs/demo.yaml")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("configs/demo.yaml", "or demo."),
        ("../emixer/configs/baselines/cogan.yaml", "or baselines/cogan."),
        ("absent.yaml", "or the name of one that comes with emixer: baselines/cogan, "),
    ],
)
def test_a_file_that_is_not_there_is_answered_with_the_name_that_is_meant(
    given: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="There is no config file") as refused:
        load_config(Path(given))
    assert expected in refused.value.message
