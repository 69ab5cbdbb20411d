"""The searcher on a real study: what it proposes, remembers and stops. Trials measure a formula here."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray import cloudpickle
from ray.tune import TuneConfig
from ray.tune.search import Searcher

from emixer.config import Config, with_overrides
from emixer.tuning.searcher import ENDED, FAILED, HOPELESS, MEASURED, NUMBER, STEP, VALUES, StudyPruning, StudySearcher
from emixer.tuning.space import parse_space
from emixer.tuning.study import DIVERGED, REASON, best, open_study, outcome, repeat_failed

SPACE = ["optim.lr_generator log 1e-5 1e-2", "loss.alpha float 0 1"]


def config(**changed: Any) -> Config:
    settings = {key.replace("__", "."): value for key, value in changed.items()}
    return with_overrides(Config(), {"tune.space": SPACE, "tune.startup_trials": 3, **settings})


def loss(values: dict[str, float]) -> float:
    return (math.log10(values["optim.lr_generator"]) + 3) ** 2 + values["loss.alpha"]


def searched(folder: Path, settings: Config, num: int) -> StudySearcher:
    """Return a searcher that has run `num` more trials to their end, one after the other."""
    folder.mkdir(exist_ok=True)
    space = parse_space(settings.tune.space, settings)
    searcher = StudySearcher(open_study(folder, settings, space), space, settings.tune.num_samples)
    for index in range(num):
        given = searcher.suggest(f"t{index}")
        assert isinstance(given, dict)
        searcher.on_trial_complete(f"t{index}", {MEASURED: [loss(given[VALUES])], ENDED: "finished"})
    return searcher


def proposals(folder: Path, settings: Config) -> list[dict[str, Any]]:
    return [trial.params for trial in open_study(folder, settings, parse_space(SPACE, settings)).trials]


def test_sequential_proposals_are_reproducible_by_seed(tmp_path: Path) -> None:
    settings = config(tune__num_samples=12)
    for name in ("one", "two"):
        searched(tmp_path / name, settings, 12)
    searched(tmp_path / "other", with_overrides(settings, {"seed": 1}), 12)
    one, two = (proposals(tmp_path / name, settings) for name in ("one", "two"))
    other = proposals(tmp_path / "other", with_overrides(settings, {"seed": 1}))
    assert one == two
    assert one != other
    first, later = one[:3], one[-4:]
    assert min(map(loss, later)) < min(map(loss, first)), "it learns from what it was told"


def test_proposals_are_counted_over_all_calls_and_running_trials_are_resumed(tmp_path: Path) -> None:
    settings = config(tune__num_samples=4)
    searcher = searched(tmp_path / "s", settings, 2)
    running = searcher.suggest("killed")
    assert isinstance(running, dict)
    again = searched(tmp_path / "s", settings, 0)
    assert again.num_left == 2
    taken_up = again.suggest("a")
    assert taken_up == running, "the same number, so the same run folder, and the same values"
    assert isinstance(taken_up, dict)
    assert taken_up[NUMBER] == 2
    assert isinstance(again.suggest("b"), dict)
    assert again.suggest("c") == Searcher.FINISHED
    assert searched(tmp_path / "s", config(tune__num_samples=6), 0).num_left == 4, "two running, two more"


def test_resumed_search_does_not_repeat_its_first_proposals(tmp_path: Path) -> None:
    for _ in range(4):
        searched(tmp_path / "s", config(tune__num_samples=8), 2)
    values = [tuple(trial.values()) for trial in proposals(tmp_path / "s", config())]
    assert len(set(values)) == 8


def test_each_outcome_is_recorded(tmp_path: Path) -> None:
    settings = config(tune__num_samples=5, tune__pruner="median", tune__reduction=2, tune__first_rung=1)
    folder = tmp_path / "s"
    searcher = searched(folder, settings, 0)
    for name in ("good", "poor", "diverged", "failed"):
        searcher.suggest(name)
    assert all(searcher.take("good", {STEP: step, MEASURED: [0.1]}) for step in (1, 2))
    searcher.on_trial_complete("good", {MEASURED: [0.1], ENDED: "finished"})
    searcher.on_trial_complete("diverged", {ENDED: DIVERGED})
    searcher.on_trial_complete("failed", error=True)
    searcher.suggest("fifth")
    searcher.take("fifth", {STEP: 1, MEASURED: [0.1]})
    searcher.take("fifth", {STEP: 2, MEASURED: [0.1]})
    searcher.on_trial_complete("fifth", {MEASURED: [0.1], ENDED: "finished"})
    assert not searcher.take("poor", {STEP: 2, MEASURED: [9.0]}), "worse than the median of two others"
    searcher.on_trial_complete("poor", {STEP: 2, MEASURED: [9.0], ENDED: "stopped"})
    study = open_study(folder, settings, parse_space(SPACE, settings))
    assert [outcome(trial) for trial in study.trials] == ["finished", "pruned", "diverged", "failed", "finished"]
    assert study.trials[2].state == TrialState.PRUNED
    leader = best(study)
    assert leader is not None
    assert leader.value == 0.1


def test_regions_where_trials_diverge_are_avoided_however_long_those_lasted(tmp_path: Path) -> None:
    settings = config(tune__space=["loss.alpha float 0 1"], tune__num_samples=60, tune__startup_trials=20)
    searcher = searched(tmp_path / "s", settings, 0)
    later = []
    for index in range(60):
        name = f"t{index}"
        given = searcher.suggest(name)
        assert isinstance(given, dict)
        alpha = given[VALUES]["loss.alpha"]
        for step in range(1, 6 if alpha > 0.5 else 2):
            searcher.take(name, {STEP: step, MEASURED: [1.0 + alpha]})
        searcher.on_trial_complete(name, {ENDED: DIVERGED if alpha > 0.5 else "stopped"})
        if index >= 20:
            later.append(alpha)
    assert sum(alpha > 0.5 for alpha in later) < 0.3 * len(later)


def test_trial_that_was_rejected_when_the_search_died_is_stopped_in_the_next(tmp_path: Path) -> None:
    settings = config(tune__num_samples=2, tune__reduction=2)
    searcher = searched(tmp_path / "s", settings, 0)
    for name in ("good", "poor"):
        searcher.suggest(name)
    assert searcher.take("good", {STEP: 1, MEASURED: [0.1]})
    assert not searcher.take("poor", {STEP: 1, MEASURED: [9.0]})
    again = searched(tmp_path / "s", settings, 0)
    for name in ("good", "poor"):
        again.suggest(name)
    assert again.take("good", {STEP: 1, MEASURED: [0.1]})
    assert not again.take("poor", {STEP: 1, MEASURED: [9.0]})
    assert again.take("poor", {STEP: 2, MEASURED: [0.1], ENDED: "finished"}), "too late: it has ended by itself"
    without = searched(tmp_path / "s", config(tune__num_samples=2, tune__pruner="none"), 0)
    for name in ("good", "poor"):
        without.suggest(name)
    assert without.take("poor", {STEP: 3, MEASURED: [9.0]})


def test_search_gives_up_after_a_hopeless_failure_or_three_in_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for name, ends in {"full": [HOPELESS], "row": ["finished", FAILED, FAILED, FAILED]}.items():
        searcher = searched(tmp_path / name, config(tune__num_samples=9), 0)
        for index, ended in enumerate(ends):
            assert searcher.given_up is None
            searcher.suggest(f"t{index}")
            searcher.on_trial_complete(f"t{index}", {MEASURED: [1.0], ENDED: ended, REASON: "the disk is full"})
        assert "the disk is full" in str(searcher.given_up)
        assert searcher.suggest("next") == Searcher.FINISHED
        (warned,) = caplog.messages
        assert warned == f"No further trials are started; those running end first: {searcher.given_up}"
        caplog.clear()


def test_failed_trials_do_not_count_and_their_values_are_retried_once(tmp_path: Path) -> None:
    settings = config(tune__num_samples=3)
    searcher = searched(tmp_path / "s", settings, 1)
    failed = searcher.suggest("failed")
    searcher.on_trial_complete("failed", error=True)
    assert isinstance(failed, dict)
    for _ in range(2):  # a call that is killed at once queues nothing twice
        repeat_failed(open_study(tmp_path / "s", settings, parse_space(SPACE, settings)))
    again = searched(tmp_path / "s", settings, 0)
    assert again.num_left == 2
    proposed = [again.suggest(name) for name in "abc"]
    assert isinstance(proposed[0], dict)
    assert proposed[0][VALUES] == failed[VALUES]
    assert isinstance(proposed[1], dict)
    assert proposed[1][VALUES] != failed[VALUES]
    assert proposed[2] == Searcher.FINISHED


def test_trial_killed_while_its_values_were_drawn_gets_the_rest(tmp_path: Path) -> None:
    settings = config(tune__num_samples=1)
    space = parse_space(SPACE, settings)
    (tmp_path / "s").mkdir()
    study = open_study(tmp_path / "s", settings, space)
    study.ask({"loss.alpha": space["loss.alpha"]})
    given = searched(tmp_path / "s", settings, 0).suggest("a")
    assert isinstance(given, dict)
    assert set(given[VALUES]) == set(space)


def test_two_objectives_take_the_best_from_the_front_and_stop_nothing(tmp_path: Path) -> None:
    settings = config(tune__num_samples=3, tune__metrics=["label_auc", "word_cross_entropy"])
    searcher = searched(tmp_path / "s", settings, 0)
    for name, values in {"a": [0.9, 2.0], "b": [0.6, 1.0], "c": [0.5, 3.0]}.items():
        searcher.suggest(name)
        assert searcher.take(name, {STEP: 1, MEASURED: values})
        searcher.on_trial_complete(name, {MEASURED: values, ENDED: "finished"})
    study = open_study(tmp_path / "s", settings, parse_space(SPACE, settings))
    assert {trial.number for trial in study.best_trials} == {0, 1}
    leader = best(study)
    assert leader is not None
    assert leader.values == [0.9, 2.0], "the best in the first, where more is better"


def test_ray_tune_writes_nothing_of_the_storage(tmp_path: Path) -> None:
    searcher = searched(tmp_path / "s", config(tune__storage=f"sqlite:///{tmp_path}/s3cret.db"), 1)
    own = TuneConfig(search_alg=searcher, scheduler=StudyPruning(searcher, print))
    assert b"s3cret" not in cloudpickle.dumps(own), "tuner.pkl in the folder, readable by whoever reads that"
