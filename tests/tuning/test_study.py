"""The study and its folder: what is refused, and what a kill leaves behind."""

import logging
import time
from pathlib import Path

import optuna
import pytest

from emixer.config import Config, with_overrides
from emixer.errors import ConfigError
from emixer.tuning.space import parse_space
from emixer.tuning.study import look_at_study, open_study

SPACE = ["loss.alpha float 0 1"]
BASE = with_overrides(Config(), {"tune.space": SPACE, "tune.startup_trials": 3})


def opened(folder: Path, config: Config = BASE, basis: dict[str, str | int] | None = None) -> optuna.Study:
    folder.mkdir(parents=True, exist_ok=True)
    return open_study(folder, config, parse_space(config.tune.space, config), basis or {})


def seen(folder: Path, config: Config = BASE) -> optuna.Study | None:
    return look_at_study(folder, config, parse_space(config.tune.space, config))


def begun(folder: Path, config: Config = BASE) -> optuna.Study:
    """Return a study with one finished trial."""
    study = opened(folder, config)
    study.tell(study.ask(dict(parse_space(config.tune.space, config))), 1.0)
    return study


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1), ("loss.beta", 0.5), ("optim.beta1", 0.4), ("train.batch_size", 32), ("data.uncertain", "ones"),
        ("model.side_px", 32), ("validation.images", 7), ("tune.budget_images", 77), ("generate.temperature", 0.5),
        ("train.validate_every_images", 77),
    ],
)  # fmt: skip
def test_study_does_not_resume_with_other_settings(tmp_path: Path, key: str, value: object) -> None:
    begun(tmp_path)
    with pytest.raises(ConfigError, match=rf"started with other settings(.|\n)*{key}: .* there, '?{value}'? here"):
        opened(tmp_path, with_overrides(BASE, {key: value}))


def test_study_resumes_with_changes_that_do_not_affect_its_trials(
    tmp_path: Path,
) -> None:
    begun(tmp_path)
    free = {"tune.num_samples": 99, "train.num_workers": 4, "loss.alpha": 0.7, "train.images": 5}
    assert len(opened(tmp_path, with_overrides(BASE, free)).trials) == 1


@pytest.mark.parametrize(("key", "there", "here"), [("tune.first_rung", 3, 1), ("tune.reduction", 4, 2)])
def test_study_whose_trials_were_halved_does_not_resume_with_other_rungs(
    tmp_path: Path, key: str, there: int, here: int
) -> None:
    config = with_overrides(BASE, {key: there})
    other = with_overrides(BASE, {key: here})
    study = opened(tmp_path, other)
    study.ask(dict(parse_space(SPACE, BASE)))
    trial = opened(tmp_path, config).ask(dict(parse_space(SPACE, BASE)))  # none has reached a rung yet
    trial.report(1.0, 3)
    trial.should_prune()
    for resume in (opened, seen):
        with pytest.raises(ConfigError, match=rf"started with other settings(.|\n)*{key}: {there} there, {here} here"):
            resume(tmp_path, other)
    for pruner in ("none", "median", "asha"):
        unused = {key: here} if pruner != "asha" else {}
        assert opened(tmp_path, with_overrides(config, {"tune.pruner": pruner} | unused))


def test_halved_study_that_was_begun_before_rungs_were_kept_resumes(tmp_path: Path) -> None:
    study = opened(tmp_path)
    study.set_user_attr("emixer", {key: value for key, value in study.user_attrs["emixer"].items() if key != "rungs"})
    trial = opened(tmp_path, with_overrides(BASE, {"tune.pruner": "none"})).ask(dict(parse_space(SPACE, BASE)))
    trial.study.pruner = study.pruner
    trial.report(1.0, 1)
    trial.should_prune()
    assert opened(tmp_path, with_overrides(BASE, {"tune.first_rung": 2}))
    with pytest.raises(ConfigError, match=r"tune\.first_rung: 2 there, 1 here"):
        opened(tmp_path)


def test_study_does_not_resume_with_other_images(tmp_path: Path) -> None:
    opened(tmp_path, basis={"data": "these", "labeler": 1})
    with pytest.raises(ConfigError, match=r"other images in data\.shards"):
        opened(tmp_path, basis={"data": "those", "labeler": 1})
    with pytest.raises(ConfigError, match="labeler: 1 there, 2 here"):
        opened(tmp_path, basis={"data": "these", "labeler": 2})


def test_folders_of_the_same_name_do_not_share_a_study(tmp_path: Path) -> None:
    shared = with_overrides(BASE, {"tune.storage": f"sqlite:///{tmp_path}/study.db"})
    begun(tmp_path / "a" / "search", shared)
    with pytest.raises(ConfigError, match="holds a study of the same name that belongs to another folder"):
        opened(tmp_path / "b" / "search", shared)
    assert len(opened(tmp_path / "a" / "search", shared).trials) == 1


def test_folder_is_not_searched_with_a_storage_that_does_not_know_it(tmp_path: Path) -> None:
    begun(tmp_path / "search")
    for name in ("search", "moved"):
        (tmp_path / name / "trials" / "0000").mkdir(parents=True)
        with pytest.raises(ConfigError, match=r"has trials of a search that is not in"):
            opened(tmp_path / name, with_overrides(BASE, {"tune.storage": f"sqlite:///{tmp_path}/{name}.db"}))


def test_line_truncated_by_a_kill_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun(tmp_path)
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "work')
    with caplog.at_level(logging.WARNING, "emixer"):
        assert len(begun(tmp_path).trials) == 2
    assert "is truncated and ignored" in caplog.text
    assert len(opened(tmp_path).trials) == 2, "what came after it stands on lines of its own"


def test_damaged_line_is_named(tmp_path: Path) -> None:
    begun(tmp_path)
    journal = tmp_path / "study.journal"
    first, second, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, second[:9] + b"\n", *rest]))
    with pytest.raises(ConfigError, match=r"study\.journal is damaged at line 2"):
        opened(tmp_path)


def test_lock_left_by_a_kill_is_removed_within_seconds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun(tmp_path)
    (tmp_path / "study.journal.lock").symlink_to(tmp_path / "study.journal")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        begun(tmp_path)
    assert time.monotonic() - started < 10
    assert [record.name for record in caplog.records] == ["emixer.tuning.study"]
    assert "was left by a killed process" in caplog.text


def test_looking_at_a_study_changes_nothing(tmp_path: Path) -> None:
    database = with_overrides(BASE, {"tune.storage": f"sqlite:///{tmp_path}/study.db"})
    folder = tmp_path / "search"
    assert seen(folder) is None
    assert seen(folder, database) is None
    assert not list(tmp_path.iterdir())
    begun(folder)
    begun(tmp_path / "other", database)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    found = seen(folder)
    assert found is not None
    assert len(found.trials) == 1
    assert seen(tmp_path / "another", database) is None
    patient = with_overrides(BASE, {"tune.storage": f"sqlite:///{tmp_path}/study.db?timeout=30"})
    assert seen(tmp_path / "other", patient) is not None, "arguments of the driver are no part of the file's name"
    with pytest.raises(ConfigError, match="started with other settings"):
        seen(folder, with_overrides(BASE, {"seed": 1}))
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_password_is_in_no_message(tmp_path: Path) -> None:
    for url in ("nosuch://me:s3cret@host/db", f"sqlite+nosuch://me:s3cret@/{tmp_path}/x.db"):
        with pytest.raises(ConfigError) as caught:
            opened(tmp_path, with_overrides(BASE, {"tune.storage": url}))
        assert "me@" in caught.value.message
        assert "s3cret" not in caught.value.message
