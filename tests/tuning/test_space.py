"""Lines of `tune.space`: what they mean, and what is refused before anything starts."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from emixer.config import Config, with_overrides
from emixer.errors import ConfigError
from emixer.tuning.space import parse_space, values_of, written


def test_each_kind_of_line_is_a_distribution_of_optuna() -> None:
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
        ("loss.alpha log 0 1", r"a logarithmic range begins above 0"),
        ("loss.alpha uniform 0 1", r"kind 'uniform'; choose float, log, int or choice"),
        ("loss.alpha float 0", r"needs two numbers"),
        ("loss.alpha", r"is not KEY KIND"),
        ("optim.discriminator_steps int 1 2.5", r"needs two whole numbers"),
        ("loss.alpha float -1 1", r"goes where the setting does not: loss\.alpha: .*greater than or equal to 0"),
        ("optim.lr_generator log 1e-3 1", r"goes where the setting does not: optim\.lr_generator"),
        ("loss.adversarial choice logistic wasserstein", r"goes where the setting does not: loss\.adversarial"),
        ("train.batch_size choice 64 64", r"names a choice twice"),
    ],
)
def test_what_cannot_be_searched_is_named(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_space([line], Config())


def test_a_key_may_stand_once() -> None:
    with pytest.raises(ConfigError, match=r"names loss\.alpha twice"):
        parse_space(["loss.alpha float 0 1", "loss.alpha float 0 2"], Config())


def test_the_configs_own_values_are_a_point_of_the_space_or_outside_of_it() -> None:
    space = parse_space(Config().tune.space, Config())
    paper = {"optim.lr_generator": 5e-5, "optim.lr_discriminator": 2e-4, "loss.alpha": 0.2}
    assert values_of(Config(), space) == paper
    assert values_of(with_overrides(Config(), {"loss.alpha": 2.0}), space) is None
    assert written(paper) == "lr_generator 5e-05, lr_discriminator 0.0002, alpha 0.2"
