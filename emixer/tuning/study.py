"""The study: trials and their outcomes, in Optuna's own storage, which is the only record of a search.

`optuna.load_study` and optuna-dashboard open it. Outcomes: Optuna distinguishes finished, pruned and failed trials;
divergence is a user attribute of a trial that counts as pruned, so that the sampler learns from it and plots are not
stretched by it.
"""

import json
import logging
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from emixer import files
from emixer.config import Config
from emixer.config.tune import TuneConfig
from emixer.errors import ConfigError
from emixer.run_folder import decisive_settings
from emixer.tuning.metrics import directions
from emixer.tuning.space import Space

logger = logging.getLogger(__name__)

Outcome = Literal["waiting", "running", "finished", "pruned", "diverged", "failed"]
STUDY_NAME, JOURNAL, IDENTITY = "emixer", "study.journal", "study.json"
_LOCK_S = 3.0
"""Optuna holds its lock for milliseconds; a lock that stays for longer was left by a killed process."""
_STORAGE_ERRORS = (OSError, ValueError, KeyError, OptunaError, SQLAlchemyError)
DIVERGED, STARTS, REASON, REPEATS, REJECTED = "diverged", "starts", "reason", "repeats", "rejected"
"""User attributes, among them why a trial failed or diverged, the number of the trial whose values it repeats, and
whether the pruner has rejected it."""
_COMPLETED_RUNG = "completed_rung_"
"""How the system attributes begin in which Optuna's successive halving keeps a trial's values at its rungs."""
Basis = Mapping[str, str | int]
NO_BASIS: Basis = {}


def open_study(folder: Path, config: Config, space: Space, basis: Basis = NO_BASIS) -> Study:
    """Open or create the study, after repairing what a kill left in its journal. Call it with the folder's lock held.

    basis: what trials are measured on and by beside the settings, e.g. `data`, the digest of the images. Raises
    ConfigError when the storage cannot be opened, is locked or damaged, belongs to another folder, or holds a study of
    other settings.
    """
    tune = config.tune
    _quiet()
    if tune.storage is None:
        _remove_stale_lock(folder / f"{JOURNAL}.lock")
        _mend_journal(folder / JOURNAL)
    storage = _storage(tune, folder)
    try:
        study = optuna.create_study(
            storage=storage, study_name=_study_name(tune, folder), directions=directions(tune.metrics),
            load_if_exists=True, pruner=_pruner(tune),
        )  # fmt: skip
        _require_same(study, config, space, folder, basis)
        _adopt(study, folder, _said(config, space, basis))
        study.sampler = _sampler(config, len(study.get_trials(deepcopy=False)))
    except _STORAGE_ERRORS as error:
        raise _unusable(tune, folder, error) from error
    return study


def look_at_study(folder: Path, config: Config, space: Space, basis: Basis = NO_BASIS) -> Study | None:
    """Return the study as it is, without changing anything; None if none was begun. Raises what `open_study` would."""
    tune = config.tune
    _quiet()
    dialect, _, path = (tune.storage or "").partition("?")[0].partition(":///")
    is_file = tune.storage is None or dialect.startswith("sqlite")
    if is_file and not (Path(path) if tune.storage else folder / JOURNAL).exists():
        return None
    storage = _storage(tune, folder, is_new=False)
    try:
        if isinstance(storage, RDBStorage) and not sqlalchemy.inspect(storage.engine).has_table("studies"):
            return None
        names = {found.study_name for found in optuna.get_all_study_summaries(storage)}
        if _study_name(tune, folder) not in names:
            return None
        study = optuna.load_study(study_name=_study_name(tune, folder), storage=storage)
        _require_same(study, config, space, folder, basis)
    except _STORAGE_ERRORS as error:
        raise _unusable(tune, folder, error) from error
    return study


def repeat_failed(study: Study) -> None:
    """Queue the values of failed trials, each once: what made them fail may have been fixed."""
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in repeated:
            study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})


def outcome(trial: FrozenTrial) -> Outcome:
    """Return the outcome of a trial."""
    if trial.user_attrs.get(DIVERGED):
        return "diverged"
    return {
        TrialState.WAITING: "waiting", TrialState.RUNNING: "running", TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    }[trial.state]  # type: ignore[return-value]  # fmt: skip


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials with values to compare."""
    return [trial for trial in trials if outcome(trial) == "finished"]


def best(study: Study) -> FrozenTrial | None:
    """Return the best trial; with several metrics, the one on the Pareto front that is best in the first. None before
    one has finished."""
    done = finished(study.get_trials(deepcopy=False))
    if not done:
        return None
    front = study.best_trials if len(study.directions) > 1 else done
    sign = 1 if study.directions[0] == StudyDirection.MINIMIZE else -1
    return min(front, key=lambda trial: sign * trial.values[0])


def _study_name(tune: TuneConfig, folder: Path) -> str:
    return STUDY_NAME if tune.storage is None else f"{STUDY_NAME}-{folder.name}"


def _storage(tune: TuneConfig, folder: Path, is_new: bool = True) -> BaseStorage:
    try:
        if tune.storage is not None:
            return RDBStorage(tune.storage, skip_table_creation=not is_new, skip_compatibility_check=not is_new)
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    except (*_STORAGE_ERRORS, ImportError) as error:
        raise ConfigError(
            f"{_named(tune, folder)} cannot be opened ({_words(error, tune)}). Give a SQLAlchemy URL whose driver is "
            "installed, or unset tune.storage for a journal file in the study's folder."
        ) from error


def _unusable(tune: TuneConfig, folder: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{_named(tune, folder)} cannot be used: {_words(error, tune)}")


def _words(error: Exception, tune: TuneConfig) -> str:
    words = f"{type(error).__name__}: {error}"
    return words if tune.storage is None else words.replace(tune.storage, str(tune.written_storage))


def _named(tune: TuneConfig, folder: Path) -> str:
    return f"The journal {folder / JOURNAL}" if tune.storage is None else f"tune.storage={tune.written_storage}"


def _remove_stale_lock(lock: Path) -> None:
    end = time.monotonic() + _LOCK_S
    while lock.is_symlink():
        if time.monotonic() > end:
            logger.warning("%s was left by a killed process; removing it.", lock)
            lock.unlink(missing_ok=True)
        time.sleep(0.1)


def _mend_journal(journal: Path) -> None:
    """Remove a last line that a kill or a full disk left half-written: the next would be appended to it."""
    if not journal.exists():
        return
    lines = journal.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        logger.warning("The last line of %s is truncated and ignored.", journal)
        files.write_bytes(journal, b"".join(lines[:-1]))
        del lines[-1]
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"{journal} is damaged at line {number}, which is not JSON. Restore it from a backup, or truncate it "
                "before that line: later trials are then repeated."
            ) from error


def _sampler(config: Config, num_trials: int) -> BaseSampler:
    """Create the sampler. A resumed search draws anew: with the seed alone it would repeat its first proposals."""
    tune = config.tune
    seed = int(np.random.SeedSequence([config.seed, num_trials]).generate_state(1)[0])
    if tune.sampler == "random":
        return RandomSampler(seed=seed)
    if tune.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=tune.startup_trials)
    # constant_liar: concurrent trials are not all sent to the same region
    return TPESampler(
        seed=seed, n_startup_trials=tune.startup_trials, multivariate=True, constant_liar=True,
    )  # fmt: skip


def _halves(tune: TuneConfig) -> bool:
    return tune.pruner == "asha" and len(tune.metrics) == 1


def _pruner(tune: TuneConfig) -> BasePruner:
    if _halves(tune):
        return SuccessiveHalvingPruner(min_resource=tune.first_rung, reduction_factor=tune.reduction)
    if tune.pruner == "median" and len(tune.metrics) == 1:
        return MedianPruner(n_startup_trials=tune.reduction, n_warmup_steps=tune.first_rung)
    return NopPruner()


def _said(config: Config, space: Space, basis: Basis) -> dict[str, Any]:
    """Return what defines a study: if any of it changed, its trials could not be compared."""
    tune = config.tune
    said: dict[str, Any] = {
        "metrics": list(tune.metrics), "space": {key: repr(found) for key, found in space.items()},
        "settings": _settings(config, space) | dict(basis),
    }  # fmt: skip
    if _halves(tune):
        said["rungs"] = {"tune.first_rung": tune.first_rung, "tune.reduction": tune.reduction}
    return said


def _settings(config: Config, space: Space) -> dict[str, Any]:
    fixed = decisive_settings("train", config)
    fixed |= {f"validation.{name}": value for name, value in config.validation.model_dump(mode="json").items()}
    fixed |= {
        "tune.budget_images": config.tune.budget_images, "generate.temperature": config.generate.temperature,
        "train.validate_every_images": config.train.validate_every_images,
    }  # fmt: skip
    return {key: value for key, value in fixed.items() if key not in {*space, "train.images", "validation.sample_rows"}}


def _require_same(study: Study, config: Config, space: Space, folder: Path, basis: Basis) -> None:
    before, said, named = study.user_attrs.get("emixer"), _said(config, space, basis), _named(config.tune, folder)
    elsewhere = "Choose another folder for tune.study, or the storage it was started with."
    if before is None:
        if study.get_trials(deepcopy=False):
            raise ConfigError(f"{named} has a study that was not made by emixer. {elsewhere}")
        if _identity(folder) is not None or any(folder.glob("trials/*")):
            raise ConfigError(f"{folder} has trials of a search that is not in {named}. {elsewhere}")
        return
    is_begun = bool(study.get_trials(deepcopy=False)) or _identity(folder) is not None
    if is_begun and before.get("id") != _identity(folder):
        raise ConfigError(f"{named} holds a study of the same name that belongs to another folder. {elsewhere}")
    for name in ("metrics", "space"):
        if before.get(name) != said[name]:
            raise ConfigError(
                f"The study in {folder} has another tune.{name}: {before.get(name)} there, {said[name]} here. "
                "Choose another folder for tune.study, or the settings it was started with."
            )
    there, here = dict(before.get("settings", {})), dict(said["settings"])
    if "rungs" in before and "rungs" in said and _has_rungs(study):  # Optuna keeps values by rung, not by pass
        there |= before["rungs"]
        here |= said["rungs"]
    differing = [
        f"  {key}: {there.get(key)!r} there, {here.get(key)!r} here"
        if key != "data"
        else "  other images in data.shards"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]
    if differing:
        raise ConfigError(
            f"The study in {folder} was started with other settings, so its trials would not be comparable:\n"
            + "\n".join(differing)
            + "\nChoose another folder for tune.study, or the settings it was started with."
        )


def _has_rungs(study: Study) -> bool:
    """Return whether successive halving has compared trials."""
    attributes = (name for trial in study.get_trials(deepcopy=False) for name in trial.system_attrs)
    return any(name.startswith(_COMPLETED_RUNG) for name in attributes)


def _adopt(study: Study, folder: Path, said: dict[str, Any]) -> None:
    """Link a new study and its folder: a storage may hold studies of several folders. Keep the rungs of this call,
    which are those of all calls so far, unless no trial has reached one."""
    known = study.user_attrs.get("emixer", {})
    if not known:
        known = {**said, "id": uuid.uuid4().hex}
        study.set_user_attr("emixer", known)
        study.set_metric_names(list(said["metrics"]))
    elif "rungs" in said and known.get("rungs") != said["rungs"]:
        study.set_user_attr("emixer", {**known, "rungs": said["rungs"]})
    if _identity(folder) is None:
        files.write_json(folder / IDENTITY, {"study": known["id"]})


def _identity(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / IDENTITY).read_text(encoding="utf-8"))["study"])
    except FileNotFoundError:
        return None


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
