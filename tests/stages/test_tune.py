"""`emixer tune` on the tiny shards: whole searches of ordinary training runs."""

import json
import re
import shutil
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from optuna.trial import FrozenTrial, TrialState

from emixer.cli.main import main
from emixer.config import Config, load_config, to_yaml, with_overrides
from emixer.data.schema import read_shard_info
from emixer.data.shards import write_shard
from emixer.errors import ConfigError, DivergenceError, EmixerError
from emixer.run_folder import RunFolder
from emixer.stages import train, tune
from emixer.stages.tune import trial as trial_of_search
from emixer.stages.tune.trial import SearchInputs, _finite, _Training, trial_config
from emixer.tuning.searcher import StudySearcher
from emixer.tuning.space import parse_space
from emixer.tuning.study import open_study, outcome
from tests.answers import answer_of
from tests.stages.searches import opened, search

pytestmark = pytest.mark.long

OWN = {"optim.lr_generator": 1e-3, "loss.alpha": 0.2}
"""Values of `tiny_config` in the space of `search`."""


@pytest.fixture(scope="module")
def searched(
    ray_cluster: None, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, tune.TuneResult]:
    """A search of one trial, whose values are sampled: the config's own are out of range. Read-only."""
    config = search(
        tiny_config, tmp_path_factory.mktemp("searched") / "study", tune__num_samples=1,
        tune__space=["optim.lr_generator log 2e-3 1e-2", "loss.alpha float 0 1"],
    )  # fmt: skip
    return config, tune.run(config)


@pytest.fixture(scope="module")
def searched_twice(
    ray_cluster: None, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, tune.TuneResult]:
    """A search of two trials, one after the other, the second chosen by TPE. Read-only."""
    config = search(
        tiny_config, tmp_path_factory.mktemp("searched-twice") / "study", tune__max_concurrent=1, tune__num_samples=2,
        tune__startup_trials=1,
    )  # fmt: skip
    return config, tune.run(config)


@pytest.fixture(scope="module")
def searched_in_sqlite(ray_cluster: None, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A search of one trial with two workers, stored in a database. Read-only."""
    folder = tmp_path_factory.mktemp("searched-in-sqlite")
    config = search(
        tiny_config, folder / "study", tune__num_samples=1, train__num_workers=2,
        tune__storage=f"sqlite:///{folder}/study.db",
    )  # fmt: skip
    assert tune.run(config).counts == {"finished": 1}
    return config


def folder_of(config: Config) -> Path:
    assert config.tune.study is not None
    return config.tune.study


@pytest.mark.thorough
@pytest.mark.ray
def test_search_starts_from_the_config_and_writes_its_results(searched_twice: tuple[Config, tune.TuneResult]) -> None:
    trials = assert_trials_and_results_are_written(*searched_twice, num=2)
    assert trials[0].params == OWN
    folder = folder_of(searched_twice[0])
    assert (folder / "report.html").read_text().count("data:image/png;base64,") >= 3
    assert (folder / "plots" / "parallel-coordinates.png").stat().st_size > 5000


@pytest.mark.ray
def test_trial_trains_with_its_sampled_values_and_the_search_writes_its_results(
    searched: tuple[Config, tune.TuneResult],
) -> None:
    (trial,) = assert_trials_and_results_are_written(*searched, num=1)
    assert trial.params["optim.lr_generator"] >= 2e-3


def assert_trials_and_results_are_written(config: Config, result: tune.TuneResult, num: int) -> list[FrozenTrial]:
    """Return the trials, all finished."""
    folder = folder_of(config)
    trials = opened(folder).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * num
    for trial in trials:
        run = RunFolder.open(folder / "trials" / f"{trial.number:04d}", "train")
        assert run.config.optim.lr_generator == trial.params["optim.lr_generator"]
        assert run.config.loss.alpha == trial.params["loss.alpha"]
        last = [line for line in run.metrics() if "validation/word_cross_entropy" in line][-1]
        assert last["images"] == 96
        assert trial.value == last["validation/word_cross_entropy"]
    best = min(trials, key=lambda trial: trial.value or 0.0)
    assert f"trial {best.number}: word_cross_entropy" in str(result)
    told = answer_of(result)
    assert told["outcome"] == "done"
    assert told["figures"]["best"]["metrics"] == {"word_cross_entropy": best.value}
    found = load_config(folder / "best.yaml")
    assert found.loss.alpha == best.params["loss.alpha"]
    page = (folder / "report.html").read_text()
    assert page.count('class="tag finished"') == num
    assert f"(resumes: {num} of {num} trials done)" in tune.describe(config)
    tune.run(with_overrides(config, {"tune.resume": True}))
    assert opened(folder).trials == trials, "a search that is through is not begun again"
    return trials


@pytest.mark.ray
def test_first_trial_is_to_have_the_values_of_the_config(
    ray_cluster: None, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_search", lambda *_: None)
    with pytest.raises(EmixerError, match="No trial finished"):
        tune.run(search(tiny_config, tmp_path))
    (waiting,) = opened(tmp_path).trials
    assert waiting.state == TrialState.WAITING
    assert waiting.system_attrs["fixed_params"] == OWN


@pytest.mark.thorough
@pytest.mark.ray
def test_sequential_search_is_reproducible(searched_twice: tuple[Config, tune.TuneResult], tmp_path: Path) -> None:
    config, _ = searched_twice
    tune.run(with_overrides(config, {"tune.study": tmp_path}))
    first, again = ([(t.params, t.value) for t in opened(folder).trials] for folder in (folder_of(config), tmp_path))
    assert again == first


def test_running_trials_are_listed_with_their_progress(
    tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = search(tiny_config, tmp_path)
    space = parse_space(config.tune.space, config)
    study = open_study(tmp_path, config, space)
    first, second = study.ask(dict(space)), study.ask(dict(space))
    run = tmp_path / "trials" / f"{second.number:04d}"
    RunFolder.create_or_resume(run, "train", config).append_metrics({"images": 48})
    with tune._followed(study, tmp_path, config):
        study.tell(first, 0.25)
    said = capsys.readouterr().err
    assert "trial   0  finished  word_cross_entropy 0.25" in said
    assert "lr_generator" in said
    assert "1/3 trials (33%)" in said
    assert "running 1 (50%)" in said
    assert "best 0.25 (trial 0)" in said


def test_search_survives_a_report_that_cannot_be_drawn(
    tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = search(tiny_config, tmp_path, tune__num_samples=1)
    space = parse_space(config.tune.space, config)
    shards = tune._checked(config)[2]
    study = open_study(tmp_path, config, space, shards)
    study.tell(study.ask(dict(space)), 0.25)
    RunFolder.create_or_resume(tmp_path / "trials" / "0000", "train", config)
    (tmp_path / "plots").write_text("in the way of the folder of plots")
    assert tune.run(config).best_values == (0.25,)
    assert "Cannot write report.html" in caplog.text
    assert load_config(tmp_path / "best.yaml").loss == config.loss


def test_non_finite_metric_is_a_divergence(tiny_config: Config, tmp_path: Path) -> None:
    config = search(tiny_config, tmp_path, tune__metrics=["fid"])
    with pytest.raises(DivergenceError, match="fid is not finite after 32 images"):
        _finite(config, {"images": 32, "validation/words_per_report": 3.0})  # the reporter omitted it
    assert _finite(config, {"images": 32, "validation/fid_random": 3.0}) == [3.0]


def test_trial_stopped_before_its_first_validation_pass_is_pruned(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = search(tiny_config, tmp_path, tune__num_samples=1)
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(trial_of_search.tune, "report", reports.append)
    stopped = SimpleNamespace(is_over=lambda: True, result=lambda: SimpleNamespace(images=16))
    trial_of_search._report(cast(_Training, stopped), trial_config(SearchInputs(config, tmp_path), 0, {}))
    space = parse_space(config.tune.space, config)
    study = open_study(tmp_path, config, space)
    searcher = StudySearcher(study, space, 1)
    searcher.suggest("a")
    (last,) = reports
    assert searcher.take("a", last)
    searcher.on_trial_complete("a", last)
    assert [outcome(trial) for trial in study.trials] == ["pruned"]


def test_says_what_the_checkpoints_of_all_trials_take(tiny_config: Config, tmp_path: Path) -> None:
    config = search(tiny_config, tmp_path, tune__num_samples=5000)
    trial = trial_config(SearchInputs(config, tmp_path), 0, {})
    (each,) = re.findall(r"checkpoint  ([\d,]+) MB each, at most 3 kept", train.describe(trial))
    (of_trial, of_all) = re.findall(r"checkpoints ([\d,]+) MB .*: ([\d,.]+) GB for 5000", tune.describe(config))[0]
    assert float(of_trial) == pytest.approx(3 * float(each), abs=2)
    assert float(of_all) == pytest.approx(5 * float(of_trial), abs=3)


def test_warns_when_the_objective_is_fid_of_random_features(
    tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tune.describe(search(tiny_config, tmp_path))
    assert not caplog.text
    tune.describe(search(tiny_config, tmp_path, tune__metrics=["fid"]))
    assert "FID uses random features here" in caplog.text


def test_resume_flag_requires_a_study(tiny_config: Config, tmp_path: Path) -> None:
    (tmp_path / "tune.yaml").write_text(to_yaml(search(tiny_config, tmp_path / "study")))
    shown = CliRunner().invoke(main, ["tune", "--resume", "--config", str(tmp_path / "tune.yaml"), "--dry-run"])
    assert shown.exit_code == 2
    assert "There is no study" in shown.output
    assert not (tmp_path / "study").exists()


def test_password_is_never_written_to_a_folder(tiny_config: Config, tmp_path: Path) -> None:
    config = search(tiny_config, tmp_path, tune__storage="postgresql://me:s3cret@host/db")
    assert trial_config(SearchInputs(config, tmp_path), 0, {}).tune.storage == "postgresql://me@host/db"


@pytest.mark.thorough
@pytest.mark.ray
def test_two_worker_trial_equals_the_training_run_of_best_yaml(searched_in_sqlite: Config, tmp_path: Path) -> None:
    study = folder_of(searched_in_sqlite)
    trial = RunFolder.open(study / "trials" / "0000", "train")
    assert trial.config.train.num_workers == 2
    arguments = ["--config", str(study / "best.yaml"), "--run", str(tmp_path / "run"), "--images", "96"]
    shown = CliRunner().invoke(main, ["train", *arguments])
    assert (shown.exit_code, shown.exception) == (0, None), shown.output
    alone = RunFolder.open(tmp_path / "run", "train")
    assert alone.config.optim.lr_generator == trial.config.optim.lr_generator

    def measured(run: RunFolder) -> list[dict[str, float]]:
        return [{k: v for k, v in line.items() if k not in ("images_per_s", "wait_share")} for line in run.metrics()]

    assert len(measured(alone)) == 6, "three of losses, three of validation"
    for one, other in zip(measured(trial), measured(alone), strict=True):
        assert one == pytest.approx(other, rel=1e-5, nan_ok=True)


@pytest.mark.thorough
@pytest.mark.ray
def test_sqlite_study_opens_in_optuna_by_its_url(searched_in_sqlite: Config) -> None:
    url = searched_in_sqlite.tune.storage
    assert len(optuna.load_study(study_name="emixer-study", storage=url).trials) == 1
    written = [path for path in (folder_of(searched_in_sqlite) / "ray").rglob("*") if path.is_file()]
    assert written
    assert not any(b"study.db" in path.read_bytes() for path in written), "a password would be in it"
    with pytest.raises(ConfigError, match=r"has another tune\.space"):
        tune.run(with_overrides(searched_in_sqlite, {"tune.space": ["loss.alpha float 0 2"]}))


@pytest.mark.parametrize(
    ("settings", "at_once"),
    [
        ({"train.gpus_per_worker": 0.25}, 8), ({"train.num_workers": 2}, 1), ({"train.gpus_per_worker": 0.5}, 4),
        ({"train.use_gpu": False, "train.cpus_per_worker": 3}, 5), ({"tune.max_concurrent": 3}, 3),
        ({"train.gpus_per_worker": 0.2}, 10), ({"train.gpus_per_worker": 0.1}, 16), ({"train.gpus_per_worker": 0.6}, 2),
    ],
)  # fmt: skip
def test_concurrent_trials_match_the_gpu_shares(settings: dict[str, Any], at_once: int) -> None:
    with_gpus = with_overrides(Config(), settings)
    assert tune.at_once(with_gpus, {"CPU": 16.0, "GPU": 2.0}) == at_once


@pytest.mark.thorough
@pytest.mark.ray
def test_poor_trials_are_pruned_and_diverged_trials_are_marked(
    ray_cluster: None, tiny_config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    config = search(
        tiny_config, folder, tune__space=["optim.lr_report_decoder choice 0.003 1e-9"], tune__pruner="asha",
        tune__num_samples=3, tune__sampler="random", tune__max_concurrent=2, tune__budget_images=160,
        optim__lr_report_decoder=0.003, seed=1,
    )  # fmt: skip
    tune.run(config)
    trials = opened(folder).trials
    assert [trial.params["optim.lr_report_decoder"] for trial in trials] == [0.003, 1e-9, 1e-9]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(trial.params["optim.lr_report_decoder"] < 1e-6 for trial in pruned), "those that hardly learn"
    for trial in pruned:
        run = RunFolder.open(folder / "trials" / f"{trial.number:04d}", "train")
        assert run.metrics()[-1]["images"] < 160, "it was stopped before its budget"
    diverging = {"optim.lr_discriminator": 0.1, "optim.beta2": 0.0, "optim.lr_generator": 0.1}
    space = ["loss.teacher_forcing choice 1e30 1e31"]
    wild = with_overrides(
        search(tiny_config, tmp_path / "wild", tune__space=space, tune__num_samples=1, tune__budget_images=20_000),
        diverging,
    )
    with pytest.raises(EmixerError, match=r"No trial finished(.|\n)*1 diverged"):
        tune.run(wild)
    (trial,) = opened(tmp_path / "wild").trials
    assert (trial.state, trial.user_attrs["diverged"]) == (TrialState.PRUNED, True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tune__space": ["optim.lr_genrator log 1e-5 1e-4"]}, r"Did you mean optim\.lr_generator\?"),
        ({"tune__space": ["loss.alpha float 1 0"]}, r"inverted"),
        ({"tune__study": None}, r"tune\.study is not set"),
        ({"tune__study": Path("/dev/null/study")}, r"Cannot write /dev/null/study: Not a directory"),
        ({"tune__pruner": "asha", "train__validate_every_images": 96}, r"nothing can be stopped early"),
        ({"tune__storage": "nosuch://x"}, r"tune\.storage=nosuch://x cannot be opened"),
        ({"model__side_px": 64}, r"images in .* have 32 px"),
        ({"tune__space": ["model.side_px choice 32 64"]}, r"images in .* have 32 px"),
        ({"tune__space": ["train.batch_size choice 16 17"], "train__num_workers": 2}, r"batch_size=17 cannot be split"),
        ({"tune__space": ["train.batch_size int 16 32"], "train__num_workers": 2}, r"batch_size=17 cannot be split"),
        ({"train__num_workers": (1, 2)}, r"num_workers=.* is for a single run\. Give trials one number"),
        ({"tune__resume": True}, r"There is no study in .*study to resume"),
    ],
)
def test_invalid_settings_are_reported_before_anything_starts(
    tiny_config: Config, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    for stage in (tune.describe, tune.run):
        with pytest.raises(EmixerError, match=message):
            stage(search(tiny_config, tmp_path / "study", **changed))
    assert not list(tmp_path.glob("study/trials/*"))


def test_metric_that_validation_cannot_report_is_refused_before_any_trial(
    tiny_config: Config, tiny_shards: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(tiny_shards, shards)
    manifest = json.loads((shards / "manifest.json").read_text())
    for path in (shards / f"{split}-00000.parquet" for split in ("train", "validate")):
        table, info = pq.read_table(path), read_shard_info(path)
        for name in ("report", "sentences"):
            column = pa.nulls(table.num_rows, table.schema.field(name).type)
            table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
        write_shard(path, table, info, row_group_rows=16)
        entry = next(e for e in manifest["shards"] if e["name"] == path.name)
        entry["num_bytes"] = path.stat().st_size
    (shards / "manifest.json").write_text(json.dumps(manifest))
    needed = {
        "word_cross_entropy": "which needs reports", "label_auc": "but among the",
        "report_f1": "which judges generated reports", "pair_agreement": "which needs reports",
    }  # fmt: skip
    for metric, needs in needed.items():
        config = search(tiny_config, tmp_path / "study", data__shards=shards, tune__metrics=[metric])
        with pytest.raises(ConfigError, match=rf"names {metric}, {needs}"):
            tune.run(with_overrides(config, {"validation.images": 4}))
    assert not (tmp_path / "study").exists()


def test_locked_storage_is_refused_within_seconds(tiny_config: Config, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db?timeout=1"
    optuna.create_study(storage=url, study_name="another")
    started = time.monotonic()
    with sqlite3.connect(tmp_path / "study.db") as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match=r"study\.db\?timeout=1 cannot be .*locked"):
            tune.run(search(tiny_config, tmp_path / "study", tune__storage=url))
        holder.rollback()
    assert time.monotonic() - started < 60, "the driver waits for the lock, and nothing else tries again"


def test_foreign_study_is_refused(tiny_config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "study.journal")))
    study = optuna.create_study(study_name="emixer", storage=storage)
    study.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(ConfigError, match="has a study that was not made by emixer"):
        tune.run(search(tiny_config, folder))
