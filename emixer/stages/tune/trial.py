"""One trial of a search: an ordinary `emixer train` in its own run folder, whose validation passes are reported to Ray
Tune as they are written."""

import math
import os
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from emixer import files
from emixer.config import Config, with_overrides
from emixer.errors import DivergenceError, ShardError, StorageError, find_emixer_error
from emixer.run_folder import RunFolder
from emixer.stages import train
from emixer.tuning.metrics import measured
from emixer.tuning.searcher import ENDED, FAILED, HOPELESS, MEASURED, NUMBER, STEP, VALUES
from emixer.tuning.space import Values
from emixer.tuning.study import DIVERGED, REASON

_POLL_S = 0.5
_END_S = 120.0
"""How long a training run may take to save and stop when its driver cannot continue."""


@dataclass(frozen=True)
class SearchInputs:
    """What all trials of a search share. Picklable."""

    config: Config
    study: Path


def run_folder_of(study: Path, number: int) -> Path:
    """Return the run folder of a trial."""
    return study / "trials" / f"{number:04d}"


def trial_config(inputs: SearchInputs, number: int, values: Values) -> Config:
    """Return the config of a trial, as for `emixer train`."""
    own = {"train.images": inputs.config.tune.budget_images, **values, "train.run": run_folder_of(inputs.study, number)}
    return with_overrides(inputs.config.without_password(), own)


def run_trial(given: dict[str, Any], inputs: SearchInputs) -> None:
    """Run a trial; called by Ray Tune in its own process. Raises errors that a restart may fix; others end a trial."""
    training: _Training | None = None
    # an earlier driver of this trial may have died with its node; no other search is here, which has a lock of its own
    os.environ.setdefault(files.LOCK_WAIT, str(files.LOCK_OF_THE_DEAD_S))
    try:
        config = trial_config(inputs, given[NUMBER], given[VALUES])
        training = _Training(config)
        training.start()
        _report(training, config)
    except Exception as error:
        if training is not None:
            training.end()
        known = find_emixer_error(error)
        if known is None or (training is not None and not training.is_over()):
            raise  # which ends this process
        if isinstance(known, DivergenceError):
            ended = DIVERGED
        else:
            ended = HOPELESS if isinstance(known, StorageError | ShardError) else FAILED
        tune.report({ENDED: ended, REASON: known.message})


def _report(training: "_Training", config: Config) -> None:
    """Report validation passes to Ray Tune until training ends, then the outcome."""
    assert config.train.run is not None
    validated, told = RunFolder(config.train.run).follow_metrics("validation/"), 0
    while True:
        is_over = training.is_over()
        lines = validated.lines()
        for line in lines[told:]:
            told += 1
            values = _finite(config, line)
            if line["images"] < config.train.images:  # the last one is reported with the outcome
                tune.report({STEP: told, MEASURED: values, "images": line["images"]})
        if is_over:
            break
        time.sleep(_POLL_S)
    result = training.result()
    if result.images < config.train.images:  # perhaps before its first validation pass
        tune.report({ENDED: "stopped"})
        return
    tune.report({STEP: told, MEASURED: _finite(config, lines[-1]), ENDED: "finished"})


def _finite(config: Config, line: dict[str, float]) -> list[float]:
    values = measured(config.tune.metrics, line)
    for name, value in zip(config.tune.metrics, values, strict=True):
        if not math.isfinite(value):
            raise DivergenceError(f"{name} is not finite after {line['images']:,} images.")
    return values


class _Training(threading.Thread):
    """`emixer train` in a thread beside the reporting loop: Ray Tune expects reports from the thread it started."""

    def __init__(self, config: Config) -> None:
        super().__init__(daemon=True)
        self._config = config
        self._outcome: Future[train.TrainResult] = Future()

    def run(self) -> None:
        try:
            self._outcome.set_result(train.run(self._config))
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._outcome.set_exception(error)

    def is_over(self) -> bool:
        """Return whether training has ended. To be checked before metrics are read, so that none is missed."""
        return not self.is_alive()

    def end(self) -> None:
        """Let training save and stop: workers without a driver would keep their resources in the cluster."""
        assert self._config.train.run is not None
        folder = RunFolder(self._config.train.run)
        if self.is_alive():
            with suppress(StorageError):
                folder.request_stop()
                self.join(_END_S)
            folder.answer_stop_request()  # else a restarted trial would stop at once

    def result(self) -> train.TrainResult:
        """Return the result of the training run, or raise its error."""
        return self._outcome.result()
