"""Names of generators."""

import pytest

from emixer.config.experiment import ExperimentConfig
from emixer.config.generator_name import GeneratorName


@pytest.mark.parametrize(
    ("text", "method", "training", "variant", "model", "fraction"),
    [
        ("cogan", "cogan", 0, "", "cogan", None),
        ("emixer-30", "emixer", 0, "30", "emixer-30", 0.3),
        ("emixer.2", "emixer", 2, "", "emixer.2", None),
        ("emixer.12-50", "emixer", 12, "50", "emixer.12-50", 0.5),
        ("smgan.1-balanced", "smgan", 1, "balanced", "smgan.1", None),
        ("emixer.2@R100.4-balanced", "emixer", 2, "balanced", "emixer.2@R100.4", None),
    ],
)
def test_name_says_method_training_and_variant(
    text: str, method: str, training: int, variant: str, model: str, fraction: float | None
) -> None:
    name = GeneratorName.parse(text)
    assert (name.method, name.training, name.variant, name.labelled_fraction) == (method, training, variant, fraction)
    assert (str(name), str(name.model)) == (text, model)


def test_generator_of_a_rows_real_pairs_says_how_many_and_which() -> None:
    assert [(name.real, name.draw) for name in map(GeneratorName.parse, ("emixer", "emixer@R100", "emixer@R90.7"))] == [
        (0, 0), (100, 0), (90, 7)
    ]  # fmt: skip


def test_first_training_has_one_name() -> None:
    assert str(GeneratorName.parse("emixer.0")) == "emixer"


@pytest.mark.parametrize("text", ["", "gan", "emixer.", "emixer.x", "emixer-40", "cogan-30", "emixer-30.1", "emixer "])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no generator: give jointgan"):
        GeneratorName.parse(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generators": 2, "seeds": (0, 1)}, "generators=2 with 2 seeds: it must be 1"),
        ({"generators": 3, "seeds": (0, 1, 2, 3)}, "generators=3 with 4 seeds: .* divide the number of seeds"),
        ({"runs": ("emixer.1=runs/b",)}, "emixer.1 is a training of its own, but generators=1. Raise generators"),
        ({"runs": ("emixer=a", "emixer.0=b")}, "names the same generator twice"),
        ({"runs": ("emixer-balanced=a",)}, "is not NAME=FOLDER"),
        ({"runs": ("emixer=",)}, "is not NAME=FOLDER"),
        ({"runs": ("vae=a",)}, "'vae' is no generator"),
        ({"runs": ("emixer@R100=a",)}, "is not NAME=FOLDER"),
        ({"generators_from": "real", "table": "table9"}, "is for gain, table1, table2, where each row"),
        ({"generators_from": "real", "runs": ("emixer=a",)}, "trains its generators itself"),
    ],
)
def test_trainings_must_give_intervals_and_runs_must_be_used(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExperimentConfig.model_validate(settings)
    ExperimentConfig(generators=3, seeds=(0, 1, 2, 3, 4, 5), runs=("emixer=a", "emixer.1=b", "emixer.2=c"))
