"""Lines of `tune.space`: what they mean, and what is refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from emixer.config import Config, with_overrides
from emixer.errors import ConfigError
from emixer.tuning.space import parse_space, values_of, written
from emixer.tuning.space_syntax import require_prunable


def test_each_kind_of_line_is_an_optuna_distribution() -> None:
    lines = [
        "optim.lr_generator log 1e-5 5e-4", "loss.alpha float 0 1", "optim.discriminator_steps int 1 4",
        "train.batch_size choice 256 512", "loss.adversarial choice logistic hinge",
        "data.horizontal_flip choice true false",
    ]  # fmt: skip
    assert parse_space(lines, Config()) == {
        "optim.lr_generator": FloatDistribution(1e-5, 5e-4, log=True),
        "loss.alpha": FloatDistribution(0, 1),
        "optim.discriminator_steps": IntDistribution(1, 4),
        "train.batch_size": CategoricalDistribution([256, 512]),
        "loss.adversarial": CategoricalDistribution(["logistic", "hinge"]),
        "data.horizontal_flip": CategoricalDistribution([True, False]),
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("optim.lr_generatr log 1e-5 1e-4", r"no setting optim\.lr_generatr\. Did you mean optim\.lr_generator\?"),
        ("lr_generator log 1e-5 1e-4", r"Did you mean optim\.lr_generator\?"),
        ("loss.alpha float 1 1", r"is empty: 1 is not below 1"),
        ("loss.alpha float 1 0", r"is inverted: 1 is not below 0"),
        ("loss.alpha log 0 1", r"a log range must start above 0"),
        ("loss.alpha uniform 0 1", r"kind 'uniform'; choose float, log, int or choice"),
        ("loss.alpha float 0", r"needs two numbers"),
        ("loss.alpha", r"is not KEY KIND"),
        ("optim.discriminator_steps int 1 2.5", r"needs two whole numbers"),
        (
            "loss.alpha float -1 1",
            r"has values that the setting does not allow: loss\.alpha: .*greater than or equal to 0",
        ),
        ("optim.lr_generator log 1e-3 1", r"has values that the setting does not allow: optim\.lr_generator"),
        (
            "loss.adversarial choice logistic wasserstein",
            r"has values that the setting does not allow: loss\.adversarial",
        ),
        ("train.batch_size choice 64 64", r"has duplicate choices"),
        ("train.batch_size choice 64", r"needs|is not KEY KIND|one choice"),
        ("loss.augment choice [color] [color,cutout]", r"has the choice \['color'\]; a choice must be a number"),
        ("loss.augment choice [color] [color", r"is not a valid YAML value"),
        ("tune.num_samples int 1 3", r"tune\.num_samples does not affect training"),
        ("train.images int 100 200", r"train\.images does not affect training"),
        ("train.run choice a b", r"train\.run does not affect training"),
        ("validation.images int 10 20", r"validation\.images does not affect training"),
        ("seed int 0 5", r"seed does not affect training"),
        ("train.num_workers int 1 2", r"train\.num_workers does not affect training"),
        ("generate.temperature float 0.1 1", r"generate\.temperature does not affect training"),
        ("data.uncertain choice zeros ones", r"validation pass reads real images with data\.uncertain, too"),
        ("data.labelled_fraction float 0.1 1", r"validation pass reads real images with data\.labelled_fraction, too"),
        ("model.max_words int 8 30", r"validation pass reads real images with model\.max_words, too"),
        ("model.max_sentences int 2 10", r"validation pass reads real images with model\.max_sentences, too"),
        (  # of these, only 1, 2, 4 and 8 divide the width
            "model.report_decoder.heads int 1 8",
            r"values that the setting does not allow: model\.report_decoder: width=512 is not a multiple of heads=3",
        ),
        ("model.report_decoder.width int 512 4096", r"width=513 is not a multiple of heads=8"),
    ],
)
def test_unsearchable_lines_are_named(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_space([line], with_overrides(Config(), {"model.report_decoder.kind": "attentive"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tune.budget_images": 100, "train.validate_every_images": 100}, r"nothing can be stopped early"),
        (
            {"tune.budget_images": 100, "train.validate_every_images": 30, "tune.first_rung": 4},
            r"4 validation pass.*tune\.first_rung=4 must come before the last",
        ),
        ({"tune.sampler": "gp"}, r"tune\.sampler=gp ignores trials that tune\.pruner=asha stops"),
    ],
)
def test_pruner_that_stops_nothing_or_hides_its_trials_is_refused(settings: dict[str, Any], message: str) -> None:
    config = with_overrides(Config(), {"train.validate_every_images": 100_000} | settings)
    with pytest.raises(ConfigError, match=message):
        require_prunable(config)
    require_prunable(with_overrides(config, {"tune.pruner": "none"}))
    require_prunable(with_overrides(config, {"tune.metrics": ["fid", "label_auc"]}))


def test_latest_first_rung_that_can_stop_something_is_accepted() -> None:
    settings = {"tune.budget_images": 100, "train.validate_every_images": 30, "tune.first_rung": 3}
    require_prunable(with_overrides(Config(), settings))


def test_metrics_are_unique_and_storage_is_absolute_without_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="metrics has duplicates"):
        with_overrides(Config(), {"tune.metrics": ["fid", "fid"]})
    monkeypatch.chdir(tmp_path)
    relative = with_overrides(Config(), {"tune.storage": "sqlite:///study.db"})
    assert relative.tune.storage == f"sqlite:///{tmp_path}/study.db"
    for url in ("sqlite:////there/study.db", "postgresql://host/db"):
        assert with_overrides(Config(), {"tune.storage": url}).tune.storage == url
    secret = with_overrides(Config(), {"tune.storage": "postgresql://me:s3:cret@host:5432/db"})
    assert secret.tune.written_storage == "postgresql://me@host:5432/db"
    for query, written_query in {
        "password=s3cret&host=/run": "host=/run", "host=/run&password=s3cret": "host=/run", "passwd=s": "",
    }.items():  # fmt: skip
        secret = with_overrides(Config(), {"tune.storage": f"postgresql:///db?{query}"})
        assert secret.tune.written_storage == f"postgresql:///db?{written_query}".rstrip("?")


def test_key_may_occur_once() -> None:
    with pytest.raises(ConfigError, match=r"names loss\.alpha twice"):
        parse_space(["loss.alpha float 0 1", "loss.alpha float 0 2"], Config())


def test_config_values_are_a_point_of_the_space_or_outside_it() -> None:
    space = parse_space(Config().tune.space, Config())
    paper = {"optim.lr_generator": 5e-5, "optim.lr_discriminator": 2e-4, "loss.alpha": 0.2}
    assert values_of(Config(), space) == paper
    assert values_of(with_overrides(Config(), {"loss.alpha": 2.0}), space) is None
    whole = parse_space(["loss.alpha int 0 3", "loss.beta int 1 4"], Config())
    assert values_of(Config(), whole) is None, "alpha is 0.2"
    assert values_of(with_overrides(Config(), {"loss.alpha": 2.0}), whole) == {"loss.alpha": 2, "loss.beta": 1}
    assert written(paper) == "lr_generator 5e-05, lr_discriminator 0.0002, alpha 0.2"
