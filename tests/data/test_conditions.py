"""Sex, age group and view as columns behind those of labels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emixer.config.training import DataConfig
from emixer.data.conditions import Conditions, age_groups
from emixer.data.known_of_images import columns_in, find_conditions
from emixer.data.loader import open_windows
from emixer.data.shards import ShardSet
from emixer.errors import ConfigError, ShardError

CONDITIONS = Conditions(
    ("sex", "age", "view"), (("F", "M"), ("18-39", "60-79", "80+"), ("AP", "LATERAL")), (18, 40, 60, 80)
)


def test_age_groups_begin_with_their_bound() -> None:
    assert age_groups((18, 40, 60, 80)) == ("0-17", "18-39", "40-59", "60-79", "80+")
    assert [CONDITIONS.value("age", age) for age in (18, 39, 60, 79, "80", "60-79")] == [
        "18-39", "18-39", "60-79", "60-79", "80+", "60-79",
    ]  # fmt: skip


def test_what_is_known_is_one_column_and_what_is_not_is_none() -> None:
    table = pa.table(
        {
            "sex": ["F", "M", None],
            "age_years": pa.array([61, 17, None], pa.int16()),
            "view": ["LATERAL", "PA", ""],
        }
    )
    columns_NC = columns_in(table, CONDITIONS)
    # 17 years and PA are values that the model's training images do not have
    assert columns_NC.tolist() == [[1, 0, 0, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0], [0] * 7]
    told = {name: values.tolist() for name, values in CONDITIONS.values_in_rows(columns_NC).items()}
    assert told == {"sex": ["F", "M", None], "age": ["60-79", None, None], "view": ["LATERAL", None, None]}
    assert CONDITIONS.vector({"sex": "f", "age": 61, "view": "lateral"}).tolist() == columns_NC[0].tolist()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "sex",
            "x",
            r"sex='x' does not occur in the training data\. Its images have F, M: give one",
        ),
        ("age", 12, r"age=12 does not occur .* have 18-39, 60-79, 80\+: give one of these, or an age in whole years"),
        ("view", "LL", r"view='LL' .* have AP, LATERAL"),
    ],
)
def test_a_value_that_no_training_image_has_is_answered_with_those_there_are(
    name: str, given: str | int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CONDITIONS.value(name, given)


def test_a_condition_that_the_model_does_not_have_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"not conditioned on view.*It is conditioned on sex\..*model\.conditions"):
        Conditions(("sex",), (("F", "M"),)).vector({"view": "PA"})


def test_conditions_have_the_values_of_train_and_batches_their_columns(
    make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    shards = ShardSet.open(make_shards(tmp_path / "s", known=True, train=48))
    conditions = find_conditions(shards, ("age", "sex"), (18, 40, 60, 80))
    table = pq.read_table(shards.files("train")[0])
    ages, sexes = table["age_years"].to_pylist(), table["sex"].to_pylist()
    assert conditions.values[1] == ("F", "M")
    assert conditions.values[0] == ("18-39", "40-59", "60-79", "80+")  # nobody is younger
    reader = open_windows(shards, "train", DataConfig(), 0, 4, 6, conditions=conditions)
    host = reader.read_rows(48)
    told = conditions.values_in_rows(host.labels[:, 14:])
    assert told["sex"].tolist() == sexes
    for age, group in zip(ages, told["age"], strict=True):
        assert (group is None) == (age is None)
        if age is not None:
            first, _, last = group.rstrip("+").partition("-")
            assert int(first) <= age <= int(last or 120)
    assert None in ages
    assert host.known.shape == (48, 14)
    vectors, counts = reader.label_counts()
    assert counts.sum() == host.labelled.sum() < 48
    expected = {tuple(vector) for vector in host.labels[host.labelled].tolist()}
    assert {tuple(vector) for vector in vectors.tolist()} == expected


def test_which_images_keep_their_labels_does_not_depend_on_conditions(
    make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    shards = ShardSet.open(make_shards(tmp_path / "s", known=True, train=64))
    half = DataConfig(labelled_fraction=0.5)
    kept = [
        open_windows(shards, "train", half, 0, 4, 6, conditions=find_conditions(shards, names, (18, 40))).read_rows(64)
        for names in ((), ("sex", "age"))
    ]
    assert np.array_equal(kept[0].labelled, kept[1].labelled)
    assert np.array_equal(kept[0].labels, kept[1].labels[:, :14])
    beside = kept[1].labels[~kept[1].labelled, 14:]
    assert beside.any()  # what else is known of an image stays


def test_what_the_shards_do_not_know_is_named(tiny_shards: Path) -> None:
    with pytest.raises(ShardError, match=r"model\.conditions names sex and age, which no training image in .* has"):
        find_conditions(ShardSet.open(tiny_shards), ("sex", "view", "age"), (18,))
