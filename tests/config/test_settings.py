"""Every setting is described, bounded, and reachable by its dotted key."""

import re
from typing import Any

import pytest

from emixer.config import Config, load_config
from emixer.config.base import Section
from emixer.config.settings import Setting, all_settings, find_setting
from emixer.config.training import TrainConfig, check_batch_size
from emixer.errors import ConfigError

SETTINGS = list(all_settings())
NUMBERS = [s for s in SETTINGS if s.annotation in (int, float)]
INTEGER_CHOICES = [s for s in SETTINGS if s.choices and isinstance(s.choices[0], int)]


def name_of(setting: Setting) -> str:
    return f"{setting.key}({setting.kind})" if setting.kind else setting.key


def test_every_setting_says_what_it_is() -> None:
    terse = [s.key for s in SETTINGS if len(s.description.split()) < 2 or not s.description.endswith((".", ")"))]
    assert terse == []


def test_every_section_says_what_it_is() -> None:
    inherited = Section.__doc__
    assert [s.section.__name__ for s in SETTINGS if s.section.__doc__ in (None, "", inherited)] == []


def test_every_number_has_a_bound() -> None:
    assert [s.key for s in NUMBERS if not s.bounds] == []


@pytest.mark.parametrize("setting", [s for s in NUMBERS if s.kind is None], ids=name_of)
def test_no_number_takes_what_is_not_a_number_in_range(setting: Setting) -> None:
    for wrong in (-1, True, "1", float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=setting.key):
            load_config(extra={setting.key: wrong})


@pytest.mark.parametrize("setting", INTEGER_CHOICES, ids=name_of)
def test_a_choice_of_numbers_takes_no_look_alike(setting: Setting) -> None:
    for choice in setting.choices:
        with pytest.raises(ConfigError, match="expected a whole number"):
            load_config(extra={setting.key: float(choice)})
    with pytest.raises(ConfigError, match="expected a whole number"):
        load_config(extra={setting.key: True})


def test_each_default_is_what_the_default_config_holds() -> None:
    config = Config()
    for setting in SETTINGS:
        if setting.kind is None:
            node: Any = config
            *sections, leaf = setting.key.split(".")
            for name in sections:
                node = getattr(node, name) if node is not None else None
            if node is not None:  # an optional section that is left out holds nothing
                assert getattr(node, leaf) == setting.default, setting.key


def test_the_default_of_a_nested_section_is_the_one_its_owner_chose() -> None:
    assert find_setting("model.report_decoder.encoder.frozen").default is False


def test_bounds_and_types_are_in_words() -> None:
    assert find_setting("generate.batch_size").bounds == ">= 1, <= 1_024"
    assert find_setting("optim.lr_generator").bounds == "> 0, <= 0.1"
    assert find_setting("model.report_decoder.encoder.blocks").type_name == "list of 4 whole numbers"
    assert find_setting("ingest.fit").type_name == "crop | pad | squeeze"
    assert find_setting("train.use_gpu").optional


def test_settings_are_leaves_and_no_sections() -> None:
    keys = {setting.key for setting in SETTINGS}
    assert {"seed", "optim.lr_generator", "ingest.source.root", "ingest.source.label_columns"} <= keys
    assert not {"optim", "ingest.source", "model.gumbel"} & keys
    with pytest.raises(KeyError):
        find_setting("optim")


@pytest.mark.parametrize(
    ("workers", "batch_size", "accumulate", "advice"),
    [
        ((8, 64), 512, 1, "every number in the range: use one number of workers, e.g. 64."),
        ((1, 30), 512, 1, "use train.num_workers=[1, 2], or one number of workers, e.g. 16."),
        ((2, 30), 48, 2, "use train.num_workers=[2, 4], or one number of workers, e.g. 24."),
        ((30, 40), 7, 2, "use one number of workers, and a batch that is a multiple of it x 2."),
        ((1, 4), 10, 1, "Use a multiple of 12, e.g. 12 or 24."),
    ],
)
def test_batch_that_no_range_of_workers_fits_says_which_would(
    workers: tuple[int, int], batch_size: int, accumulate: int, advice: str
) -> None:
    schedule = TrainConfig(num_workers=workers, batch_size=batch_size, accumulate=accumulate)
    with pytest.raises(ConfigError, match=re.escape(advice)):
        check_batch_size("train", schedule)
