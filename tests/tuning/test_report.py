"""The report after a search, on real studies with formulas for trials, and Optuna's dashboard on them."""

import csv
import json
import math
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest

from emixer.config import Config, with_overrides
from emixer.tuning.report import importances, write_report
from emixer.tuning.space import parse_space
from emixer.tuning.study import REASON, best, open_study

SPACE = ["optim.lr_generator log 1e-5 1e-2", "loss.alpha float 0 1"]


def searched(folder: Path, num: int, metrics: list[str]) -> optuna.Study:
    """Return a study in which the learning rate determines nearly everything."""
    config = with_overrides(Config(), {"tune.space": SPACE, "tune.sampler": "random", "tune.metrics": metrics})
    space = parse_space(SPACE, config)
    study = open_study(folder, config, space)
    for _ in range(num):
        trial = study.ask(dict(space))
        away = (math.log10(trial.params["optim.lr_generator"]) + 3) ** 2
        study.tell(trial, [away + 0.01 * trial.params["loss.alpha"], 5 - away][: len(metrics)])
    return study


def test_report_shows_importances_as_a_table_and_a_plot(tmp_path: Path) -> None:
    study = searched(tmp_path, 30, ["fid"])
    shares = importances(study)
    assert list(shares) == ["optim.lr_generator", "loss.alpha"], "the largest first"
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["optim.lr_generator"] > 0.7
    write_report(study, tmp_path, ["fid"])
    page = (tmp_path / "report.html").read_text()
    assert f"{100 * shares['optim.lr_generator']:.0f} %" in page
    assert '<img alt="Importances" src="data:image/png;base64,' in page
    assert (tmp_path / "plots" / "importances.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((tmp_path / "importances.csv").read_text().splitlines()))
    assert {row["setting"]: float(row["importance"]) for row in rows} == pytest.approx(shares, abs=1e-6)


def test_few_trials_give_no_importances(tmp_path: Path) -> None:
    study = searched(tmp_path, 4, ["fid"])
    assert importances(study) == {}
    write_report(study, tmp_path, ["fid"])
    assert "What mattered" not in (tmp_path / "report.html").read_text()


def test_four_objectives_have_a_report_without_a_pareto_front(tmp_path: Path) -> None:
    """Optuna draws fronts of two or three."""
    metrics = ["fid", "word_cross_entropy", "label_auc", "report_f1"]
    config = with_overrides(Config(), {"tune.space": SPACE, "tune.sampler": "random", "tune.metrics": metrics})
    space = parse_space(SPACE, config)
    study = open_study(tmp_path, config, space)
    for number in range(6):
        study.tell(study.ask(dict(space)), [number, 5 - number, 0.5, 0.1 * number])
    write_report(study, tmp_path, metrics)
    assert 'alt="Optimization history"' in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "plots" / "pareto-front.png").exists()


def test_two_objectives_have_a_pareto_front_and_importances_of_the_first(tmp_path: Path) -> None:
    study = searched(tmp_path, 20, ["fid", "word_cross_entropy"])
    write_report(study, tmp_path, ["fid", "word_cross_entropy"])
    page = (tmp_path / "report.html").read_text()
    assert '<img alt="Pareto front" src="data:image/png;base64,' in page
    assert (tmp_path / "plots" / "pareto-front.png").read_bytes().startswith(b"\x89PNG")
    assert "<th>fid</th><th>word_cross_entropy</th>" in page
    assert next(iter(importances(study))) == "optim.lr_generator"
    leader = best(study)
    assert leader is not None
    assert f"Best: trial {leader.number}" in page


def test_importances_are_about_the_best_trials_whatever_else_is_measured(tmp_path: Path) -> None:
    """The rate decides which trials are best, alpha which are worst."""
    found = []
    for metrics in (["label_auc"], ["label_auc", "word_cross_entropy"]):
        config = with_overrides(Config(), {"tune.space": SPACE, "tune.sampler": "random", "tune.metrics": metrics})
        space = parse_space(SPACE, config)
        folder = tmp_path / str(len(metrics))
        folder.mkdir()
        study = open_study(folder, config, space)
        for _ in range(60):
            trial = study.ask(dict(space))
            away = abs(math.log10(trial.params["optim.lr_generator"]) + 3)
            study.tell(trial, [math.exp(-away) - 5 * (trial.params["loss.alpha"] < 0.15), 0.8][: len(metrics)])
        found.append(importances(study))
    assert found[0] == pytest.approx(found[1])
    assert found[0]["optim.lr_generator"] > 0.9


def test_running_and_failed_trials_are_in_the_table(tmp_path: Path) -> None:
    study = searched(tmp_path, 2, ["fid"])
    space = parse_space(SPACE, Config())
    study.ask(dict(space))
    failed = study.ask(dict(space))
    failed.set_user_attr(REASON, "the disk is <full>")
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    write_report(study, tmp_path, ["fid"])
    page = (tmp_path / "report.html").read_text()
    assert 'class="tag running"' in page
    assert "the disk is &lt;full&gt;" in page


def test_optuna_dashboard_opens_the_study(tmp_path: Path) -> None:
    study = searched(tmp_path, 6, ["fid"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), str(tmp_path / "study.journal"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dashboard:
        try:
            address = f"http://127.0.0.1:{port}/api/studies"
            (found,) = answer(address)["study_summaries"]
            assert found["study_name"] == "emixer"
            shown = answer(f"{address}/{found['study_id']}")
        finally:
            dashboard.terminate()
    assert [trial["values"] for trial in shown["trials"]] == [trial.values for trial in study.trials]


def answer(address: str) -> dict[str, Any]:
    """Return the server's answer, waiting for it to come up."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address) as response:
                return dict(json.load(response))
        except OSError:
            assert time.monotonic() < end, "it did not come up"
            time.sleep(0.2)
