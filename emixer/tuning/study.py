"""The study: what was tried and what came of it, in Optuna's own storage, which is the whole memory of a search.

`optuna.load_study` and optuna-dashboard open it. Outcomes: Optuna tells finished, pruned and failed trials apart; that
a run diverged is a user attribute of a trial that counts as pruned, so that the sampler learns from it and plots are
not stretched by it.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from emixer.config import Config
from emixer.config.tune import TuneConfig
from emixer.errors import ConfigError
from emixer.tuning.metrics import directions
from emixer.tuning.space import Space

Outcome = Literal["waiting", "running", "finished", "pruned", "diverged", "failed"]
STUDY_NAME, JOURNAL = "emixer", "study.journal"
_STORAGE_ERRORS = (OSError, ValueError, KeyError, OptunaError, SQLAlchemyError)
DIVERGED, STARTS, REASON, REPEATS = "diverged", "starts", "reason", "repeats"
"""User attributes: of one that failed, why; of one that tries its values again, its number."""


def open_study(folder: Path, config: Config, space: Space) -> Study:
    """Opens or creates the study.

    Raises ConfigError when the storage cannot be opened, is locked, or holds a study of other metrics or another space.
    """
    tune = config.tune
    _quiet()
    storage = _storage(tune, folder)
    try:
        study = optuna.create_study(
            storage=storage, study_name=STUDY_NAME if tune.storage is None else f"{STUDY_NAME}-{folder.name}",
            directions=directions(tune.metrics), load_if_exists=True, pruner=_pruner(tune),
        )  # fmt: skip
        _require_same(study, tune, space, folder)
        study.sampler = _sampler(config, len(study.get_trials(deepcopy=False)))
    except _STORAGE_ERRORS as error:
        raise ConfigError(f"{_named(tune, folder)} cannot be used: {type(error).__name__}: {error}") from error
    return study


def repeat_failed(study: Study) -> None:
    """Queues the values of trials that failed, each once: what made them fail may be mended now."""
    trials = study.get_trials(deepcopy=False)
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in repeated:
            study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})


def outcome(trial: FrozenTrial) -> Outcome:
    """What became of a trial."""
    if trial.user_attrs.get(DIVERGED):
        return "diverged"
    return {
        TrialState.WAITING: "waiting", TrialState.RUNNING: "running", TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    }[trial.state]  # type: ignore[return-value]  # fmt: skip


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those with values to compare."""
    return [trial for trial in trials if outcome(trial) == "finished"]


def best(study: Study) -> FrozenTrial | None:
    """The best trial; of several metrics, the one of the best trade-offs that is best in the first. None before one has
    finished."""
    done = finished(study.get_trials(deepcopy=False))
    if not done:
        return None
    front = study.best_trials if len(study.directions) > 1 else done
    sign = 1 if study.directions[0] == StudyDirection.MINIMIZE else -1
    return min(front, key=lambda trial: sign * trial.values[0])


def _storage(tune: TuneConfig, folder: Path) -> BaseStorage:
    try:
        if tune.storage is not None:
            return RDBStorage(tune.storage)
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    except (*_STORAGE_ERRORS, ImportError) as error:
        raise ConfigError(
            f"{_named(tune, folder)} cannot be opened ({type(error).__name__}: {error}). Give a URL that SQLAlchemy "
            "knows and whose driver is installed, or leave tune.storage out for a journal file in the study's folder."
        ) from error


def _named(tune: TuneConfig, folder: Path) -> str:
    return f"The journal {folder / JOURNAL}" if tune.storage is None else f"tune.storage={tune.storage}"


def _sampler(config: Config, num_trials: int) -> BaseSampler:
    """A search that goes on draws anew: with the seed alone it would propose again what it began with."""
    tune = config.tune
    seed = int(np.random.SeedSequence([config.seed, num_trials]).generate_state(1)[0])
    if tune.sampler == "random":
        return RandomSampler(seed=seed)
    if tune.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=tune.startup_trials)
    # constant_liar: trials that run at the same time are not all sent to the same place
    return TPESampler(
        seed=seed, n_startup_trials=tune.startup_trials, multivariate=True, constant_liar=True,
    )  # fmt: skip


def _pruner(tune: TuneConfig) -> BasePruner:
    if tune.pruner == "asha" and len(tune.metrics) == 1:
        return SuccessiveHalvingPruner(min_resource=tune.first_rung, reduction_factor=tune.reduction)
    if tune.pruner == "median" and len(tune.metrics) == 1:
        return MedianPruner(n_startup_trials=tune.reduction, n_warmup_steps=tune.first_rung)
    return NopPruner()


def _require_same(study: Study, tune: TuneConfig, space: Space, folder: Path) -> None:
    said: dict[str, Any] = {"metrics": list(tune.metrics), "space": {k: repr(v) for k, v in space.items()}}
    before = study.user_attrs.get("emixer")
    if before is None:
        if study.get_trials(deepcopy=False):
            raise ConfigError(
                f"{_named(tune, folder)} holds a study that emixer did not make. Choose another storage, or another "
                "folder for tune.study."
            )
        study.set_user_attr("emixer", said)
        study.set_metric_names(list(tune.metrics))
    elif before != said:
        changed = "metrics" if before.get("metrics") != said["metrics"] else "space"
        raise ConfigError(
            f"The study in {folder} has another tune.{changed}: {before.get(changed)} there, {said[changed]} here. "
            "Choose another folder for tune.study, or the settings that it was begun with."
        )


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
