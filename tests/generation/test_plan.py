"""Label plans."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emixer.data.conditions import NO_CONDITIONS, Conditions
from emixer.errors import ConfigError
from emixer.generation.label_names import label_vector
from emixer.generation.plan import make_plan
from emixer.generation.plan_kinds import LabelPlan, plan_digest
from emixer.generation.plan_table import read_plan
from emixer.models.paired_model import ModelSpec

NAMES = ("Edema", "Fracture", "Pneumonia", "Pneumothorax")
SPEC = ModelSpec(
    label_names=NAMES,
    tokens=("<PAD>", "<START>", "<END>", "<UNK>"),
    label_vectors=((0, 0, 0, 0), (1, 0, 0, 0), (1, 0, 1, 0), (0, 0, 1, 0)),
    label_counts=(50, 30, 15, 5),
)
F = 4
"""Column of the first condition."""
PEOPLE = replace(
    SPEC,
    label_vectors=(
        (0, 0, 0, 0, 1, 0, 1, 0),
        (1, 0, 0, 0, 0, 1, 0, 1),
        (1, 0, 0, 0, 1, 0, 0, 0),
        (0, 0, 1, 0, 0, 1, 0, 0),
    ),
    label_counts=(50, 30, 10, 10),
    conditions=Conditions(("sex", "view"), (("F", "M"), ("AP", "PA"))),
)
"""Healthy women in AP, men with edema in PA, women with edema and men with pneumonia of whom the view is not known."""


@pytest.fixture(params=["train", "balanced", "listed", "completed"])
def drawn_plan(request: pytest.FixtureRequest, tmp_path: Path) -> LabelPlan:
    if request.param in ("train", "balanced"):
        return make_plan(request.param, (), SPEC, seed=3)
    listed = str(_written(tmp_path, "Edema,count\n1,3\n0,2\n"))
    return make_plan(listed, (), SPEC if request.param == "listed" else PEOPLE, seed=3)


def test_rows_of_a_plan_do_not_depend_on_where_reading_begins(drawn_plan: LabelPlan) -> None:
    whole = drawn_plan.labels(0, 100)
    for first, num in ((0, 1), (1, 5), (37, 2), (64, 36)):
        np.testing.assert_array_equal(drawn_plan.labels(first, num), whole[first : first + num])


def test_another_seed_draws_other_labels() -> None:
    one, other = (make_plan("train", (), SPEC, seed).labels(0, 200) for seed in (0, 1))
    assert (one != other).any()


def test_train_plan_follows_the_joint_distribution_of_the_training_images() -> None:
    rows = make_plan("train", (), SPEC, seed=0).labels(0, 100_000)
    for vector, count in zip(SPEC.label_vectors, SPEC.label_counts, strict=True):
        share = (rows == vector).all(axis=1).mean()
        assert share == pytest.approx(count / 100, abs=0.006)  # more than three standard deviations


def test_balanced_plan_gives_each_label_its_turn_with_the_company_it_keeps() -> None:
    rows = make_plan("balanced", (), SPEC, seed=0).labels(0, 60_000)
    # No image carries Fracture or Pneumothorax, so Edema and Pneumonia take turns.
    assert (rows[0::2, NAMES.index("Edema")] == 1).all()
    assert (rows[1::2, NAMES.index("Pneumonia")] == 1).all()
    assert not rows[:, [NAMES.index("Fracture"), NAMES.index("Pneumothorax")]].any()
    # Of 45 images with edema 15 have pneumonia too; of 20 with pneumonia 15 have edema.
    assert rows[0::2, NAMES.index("Pneumonia")].mean() == pytest.approx(15 / 45, abs=0.01)
    assert rows[1::2, NAMES.index("Edema")].mean() == pytest.approx(15 / 20, abs=0.01)


def test_balanced_plan_needs_a_label() -> None:
    spec = ModelSpec(NAMES, SPEC.tokens, ((0, 0, 0, 0),), (9,))
    with pytest.raises(ConfigError, match="plan=balanced needs labels"):
        make_plan("balanced", (), spec, seed=0)


def test_fixed_labels_stand_in_every_row() -> None:
    plan = make_plan("train", ("Pneumonia", "Edema"), SPEC, seed=0)
    np.testing.assert_array_equal(plan.labels(7, 3), [[1, 0, 1, 0]] * 3)


def test_unknown_label_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no label 'pneumotorax'\. Did you mean Pneumothorax"):
        label_vector(["pneumotorax"], NAMES)
    with pytest.raises(ConfigError, match=r"It knows Edema, Fracture, Pneumonia, Pneumothorax\."):
        label_vector(["zzz"], NAMES)


def test_labels_and_plan_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="both set"):
        make_plan("balanced", ("Edema",), SPEC, seed=0)


def test_plan_that_is_no_name_and_no_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither `train` nor `balanced` nor a file"):
        make_plan("trian", (), SPEC, seed=0)


def test_csv_plan_gives_each_row_so_often_and_starts_again(tmp_path: Path) -> None:
    # with the byte order mark and the blank line at the end that spreadsheets write
    path = _written(tmp_path, "\ufeffPneumothorax, count ,Edema\n1,2,0\n0,0,1\n1,1,1\n\n")
    plan = read_plan(path, NAMES, NO_CONDITIONS)
    assert plan.num_rows == 3
    expected = [[0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1]]
    np.testing.assert_array_equal(plan.labels(0, 7), (expected * 3)[:7])


def test_csv_plan_without_counts_gives_each_row_once(tmp_path: Path) -> None:
    plan = make_plan(str(_written(tmp_path, "Edema\n1\n0\n")), (), SPEC, seed=0)
    assert plan.num_rows == 2
    np.testing.assert_array_equal(plan.labels(0, 2)[:, 0], [1, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Pneumotorax,count\n1,2\n",
            r"column 'Pneumotorax', which is not a label of the model\. Did you mean Pneumothorax",
        ),
        ("Edema,cuont\n1,2\n", r"column 'cuont'.*Did you mean count"),
        ("Edema,Edema\n1,1\n", "the column 'Edema' twice"),
        ("Edema;count\n1;2\n", "no commas in its first line"),
        (",Edema\n0,1\n", r"a column without a name.*index=False"),
        ("Edema,Jane Roe\n1,2\n", r"Column 2 of the label plan .* is not a label of the model: .*It knows Edema"),
        (f"Edema\n{'Large effusion. ' * 9}\n", r"a text of 143 characters in line 2"),
        ("count\n3\n", "names no label in its first line"),
        ("", "names no label in its first line"),
        ("Edema,count\n1,1\n2,1\n", r"'2' in line 3, column 'Edema'\. Expected 0 or 1"),
        ("Edema,count\n1,-1\n", r"'-1' in line 2, column 'count'\. Expected a whole number"),
        ("Edema,count\n1\n", "1 values in line 2; its header has 2"),
        ("Edema,count\n", "lists no rows"),
        ("Edema,count\n1,0\n", "lists no rows"),
        ("Edema,count\n1,99999999999999999999\n", "99,999,999,999,999,999,999 rows, more than"),
        ("Edema,count\n1,9223372036854775807\n0,9223372036854775807\n", "18,446,744,073,709,551,614 rows, more than"),
    ],
)
def test_csv_plan_that_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_plan(_written(tmp_path, text), NAMES, NO_CONDITIONS)


def test_csv_plan_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_bytes(b"\xff\xfe\x00PNG")
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        read_plan(path, NAMES, NO_CONDITIONS)


def test_digest_tells_plans_apart_by_content_not_by_place(tmp_path: Path) -> None:
    text = "Edema\n1\n"
    (tmp_path / "other").mkdir()
    here, there = (read_plan(_written(folder, text), NAMES, NO_CONDITIONS) for folder in (tmp_path, tmp_path / "other"))
    changed = read_plan(_written(tmp_path, "Edema\n0\n"), NAMES, NO_CONDITIONS)
    assert plan_digest(here) == plan_digest(there) != plan_digest(changed)
    assert plan_digest(make_plan("train", (), SPEC, 0)) != plan_digest(make_plan("balanced", (), SPEC, 0))
    others = replace(PEOPLE, label_counts=(50, 30, 11, 10))
    of_open_conditions = {plan_digest(make_plan("train", ("Edema",), spec, 0)) for spec in (PEOPLE, others)}
    assert len(of_open_conditions) == 2, "they are drawn as other training images have them"


def _written(folder: Path, text: str) -> Path:
    path = folder / "plan.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_conditions_are_drawn_with_the_labels_they_go_with() -> None:
    rows = make_plan("train", (), PEOPLE, seed=0).labels(0, 20_000)
    both, counts = np.unique(rows, axis=0, return_counts=True)
    assert {tuple(row) for row in both.tolist()} == set(PEOPLE.label_vectors)
    share = dict(zip(map(tuple, both.tolist()), counts / 20_000, strict=True))
    assert share[PEOPLE.label_vectors[0]] == pytest.approx(0.5, abs=0.02)


def test_a_fixed_condition_leaves_the_labels_of_the_images_that_have_it() -> None:
    plan = make_plan("train", (), PEOPLE, 0, {"sex": "F"})
    rows = plan.labels(0, 2000)
    assert rows[:, F].all()
    assert set(map(tuple, rows.tolist())) == {v for v in PEOPLE.label_vectors if v[F]}
    assert plan.description.endswith(", sex F in every row")


def test_open_conditions_are_those_of_images_with_the_labels() -> None:
    plan = make_plan("train", ("Edema",), PEOPLE, seed=0)
    rows = plan.labels(0, 4000)
    assert (rows[:, :4] == [1, 0, 0, 0]).all()
    # edema: 10 women of unknown view and 30 men in PA
    beside = [(0, 1, 0, 1), (1, 0, 0, 0)]
    found, counts = np.unique(rows[:, 4:], axis=0, return_counts=True)
    assert found.tolist() == [list(row) for row in beside]
    assert counts[0] / 4000 == pytest.approx(0.75, abs=0.03)
    assert np.array_equal(rows[1000:1064], plan.labels(1000, 64))
    by_view = make_plan("train", ("Edema",), PEOPLE, 0, {"view": "PA"}).labels(0, 100)
    assert (by_view[:, 4:] == [0, 1, 0, 1]).all()  # no woman with edema is known to be in PA


def test_where_no_image_has_the_labels_the_named_conditions_decide() -> None:
    rows = make_plan("train", ("Fracture",), PEOPLE, 0, {"sex": "F"}).labels(0, 500)
    assert (rows[:, :4] == [0, 1, 0, 0]).all()
    assert {tuple(row) for row in rows[:, 4:].tolist()} == {(1, 0, 1, 0), (1, 0, 0, 0)}


def test_conditions_take_turns_and_with_balanced_labels_do_too() -> None:
    plan = make_plan("train", (), PEOPLE, 0, balance_by=("sex",))
    rows = plan.labels(0, 600)
    assert rows[0::2, F + 1].all()
    assert rows[1::2, F].all()
    both = make_plan("balanced", (), PEOPLE, 0, balance_by=("sex",))
    rows = both.labels(0, 600)
    for turn in range(len(both.content[2])):
        wanted = both.content[2][turn] == 1
        assert rows[turn :: len(both.content[2])][:, wanted].all()
    # edema of both sexes; pneumonia of men alone: no woman has it
    assert {tuple(np.flatnonzero(row)) for row in both.content[2]} == {(0, F), (0, F + 1), (2, F + 1)}
    fixed = make_plan("train", ("Edema",), PEOPLE, 0, balance_by=("sex",)).labels(0, 100)
    assert fixed[:, 0].all()
    assert (fixed[:, F].sum(), fixed[:, F + 1].sum()) == (50, 50)
    digests = {plan_digest(plan), plan_digest(both), plan_digest(make_plan("balanced", (), PEOPLE, 0))}
    assert len(digests) == 3


def test_csv_plan_names_conditions_or_leaves_them_open(tmp_path: Path) -> None:
    path = _written(tmp_path, "Edema,sex,view,count\n1,f,PA,2\n1,,,1\n0,M,,1\n")
    plan = make_plan(str(path), (), PEOPLE, seed=0)
    rows = plan.labels(0, 400)
    assert plan.num_rows == 4
    assert (rows[0::4, 4:] == [1, 0, 0, 1]).all()
    assert {tuple(row) for row in rows[2::4, 4:].tolist()} == {(0, 1, 0, 1), (1, 0, 0, 0)}
    assert rows[3::4, F + 1].all()
    everywhere = make_plan(str(_written(tmp_path, "Edema\n1\n")), (), PEOPLE, 0, {"sex": "M"}).labels(0, 8)
    assert everywhere[:, F + 1].all()


@pytest.mark.parametrize(
    ("plan", "labels", "conditions", "balance_by", "message"),
    [
        ("train", (), {"sex": "M", "view": "AP"}, (), r"No training image has sex M, view AP together"),
        ("train", (), {"age": 60}, (), r"not conditioned on age.*It is conditioned on sex, view\."),
        ("train", (), {"sex": "F"}, ("sex",), r"generate\.sex fixes what generate\.balance_by=sex alternates"),
        ("train", (), {"sex": "F"}, ("view", "view"), r"No training image of sex F has a known view and view"),
        ("balanced", (), {"sex": "F"}, ("view",), r"No training image with a label has a known view"),
        ("{csv}", (), {}, ("sex",), r"generate\.balance_by is set, but generate\.plan=.* lists every row"),
        ("{csv}", (), {"sex": "F"}, (), r"sex is set, but .* also has a column for it"),
    ],
)
def test_wishes_that_exclude_each_other_are_refused(
    tmp_path: Path, plan: str, labels: tuple[str, ...], conditions: dict[str, str | int], balance_by: tuple[str, ...],
    message: str,
) -> None:  # fmt: skip
    csv = _written(tmp_path, "Edema,sex\n1,F\n")
    with pytest.raises(ConfigError, match=message):
        make_plan(plan.format(csv=csv), labels, PEOPLE, 0, conditions, balance_by)


def test_csv_plan_with_a_value_that_there_is_not_says_where(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has 'LL' in line 3, column 'view'\. view='LL' does not occur .* have AP, PA"
    ):
        make_plan(str(_written(tmp_path, "Edema,view\n1,PA\n1,LL\n")), (), PEOPLE, 0)
