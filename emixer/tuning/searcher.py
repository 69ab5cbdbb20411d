"""Bridge between Ray Tune and the study: proposes values, records results, stops poor trials.

Ray Tune's own record of a search is not used. A killed search resumes from the study alone: trials that were running
are proposed again under their numbers, and find their run folders.
"""

import logging
import math
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.pruners import NopPruner
from optuna.study import Study
from optuna.trial import Trial, TrialState
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from emixer.tuning.space import Space
from emixer.tuning.study import DIVERGED, REASON, REJECTED, STARTS

logger = logging.getLogger(__name__)

NUMBER, VALUES, STEP, MEASURED, ENDED = "number", "values", "step", "measured", "ended"
"""Keys of a trial's input and of its reports."""
FAILED, HOPELESS = "failed", "hopeless"
"""Outcomes of a trial that failed for good: by an error that a restart would not fix; by one that all trials share."""
_MAX_CONSECUTIVE_FAILURES = 3
_LOST = re.compile(r"The actor (died|\S+ is unavailable)")
"""Ray's message for a trial whose process is gone."""


class StudySearcher(Searcher):  # type: ignore[misc]
    """Proposes `num_samples` trials in all, including those already in the study, except failed ones.

    It ends early when several trials fail in a row, or one fails for a reason that would affect all.
    """

    def __init__(self, study: Study, space: Space, num_samples: int) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._space = study, space
        self._live: dict[str, Trial] = {}
        self._reported: dict[str, set[int]] = {}
        trials = study.get_trials(deepcopy=False)
        self._orphans = deque(t for t in trials if t.state == TrialState.RUNNING)
        counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        self._left = num_samples - sum(t.state in counted for t in trials)
        self._consecutive_failures = 0
        self._died_of: dict[str, str] = {}
        self.given_up: str | None = None
        """Why no more trials are proposed, if the search was given up."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray Tune pickles it into the folder, where a password of the study's storage must not be."""
        return {}

    @property
    def num_left(self) -> int:
        """Number of trials still to propose."""
        return len(self._orphans) + max(0, self._left)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return values for a trial of Ray Tune; Searcher.FINISHED when there are enough."""
        if self.given_up is not None:
            return Searcher.FINISHED  # type: ignore[no-any-return]
        if self._orphans:
            orphan = self._orphans.popleft()
            trial = Trial(self._study, orphan._trial_id)
            for key, distribution in self._space.items():  # a kill may have come before all values were drawn
                trial._suggest(key, distribution)
        elif self._left > 0:
            self._left -= 1
            trial = self._study.ask(dict(self._space))
        else:
            return Searcher.FINISHED  # type: ignore[no-any-return]
        trial.set_user_attr(STARTS, trial.user_attrs.get(STARTS, 0) + 1)
        self._live[trial_id] = trial
        self._reported[trial_id] = {*self._study.trials[trial.number].intermediate_values}
        return {NUMBER: trial.number, VALUES: dict(trial.params)}

    def take(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record a validation pass. Returns whether the trial should continue."""
        trial = self._live[trial_id]
        if len(self._study.directions) > 1 or STEP not in result:
            return True
        value, step = result[MEASURED][0], result[STEP]
        if math.isfinite(value) and step not in self._reported[trial_id]:  # a restarted trial reports everything again
            self._reported[trial_id].add(step)
            trial.report(value, step)
        if ENDED in result or isinstance(self._study.pruner, NopPruner):  # perhaps the pruner was another before
            return True
        # remembered: asked again in a later call, successive halving would speak only at the trial's next rung
        if not trial.user_attrs.get(REJECTED) and trial.should_prune():
            trial.set_user_attr(REJECTED, True)
        return not trial.user_attrs.get(REJECTED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record in the study how a trial ended."""
        trial = self._live.pop(trial_id)
        ended = FAILED if error or result is None else result.get(ENDED)
        if ended in (FAILED, HOPELESS):
            reason = self._died_of.get(trial_id, "") if result is None else result.get(REASON, "")
            self._fail(trial, reason, is_hopeless=ended == HOPELESS)
            return
        self._consecutive_failures = 0
        assert result is not None, "one without a result has failed"
        if result.get(ENDED) == DIVERGED:
            trial.set_user_attr(DIVERGED, True)
            trial.set_user_attr(REASON, result.get(REASON, ""))
            # else the sampler would rank it by how long it ran, ahead of trials stopped earlier
            trial.set_constraint(DIVERGED, 1.0)
            self._study.tell(trial, state=TrialState.PRUNED)
        elif result.get(ENDED) == "finished":
            self._study.tell(trial, result[MEASURED])
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def note_death(self, trial_id: str, reason: str) -> None:
        """Record why a trial died that could not report it itself."""
        self._died_of[trial_id] = reason

    def _fail(self, trial: Trial, reason: str, is_hopeless: bool) -> None:
        trial.set_user_attr(REASON, reason)
        self._study.tell(trial, state=TrialState.FAIL)
        self._consecutive_failures += 1
        was_given_up = self.given_up is not None
        if is_hopeless:
            self.given_up = f"trial {trial.number} failed with an error that would affect every trial: {reason}"
        elif self._consecutive_failures >= _MAX_CONSECUTIVE_FAILURES:
            self.given_up = f"{self._consecutive_failures} trials in a row failed, the last: {reason}"
        if self.given_up is not None and not was_given_up:
            logger.warning("No further trials are started; those running end first: %s", self.given_up)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study holds everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


class StudyPruning(FIFOScheduler):  # type: ignore[misc]
    """Lets trials continue until the study's pruner rejects them.

    A trial is then *asked* to stop. If Ray Tune ended its process, Ray Train would not notice (without a dashboard,
    nothing tells it that its owner is gone), and the trial's workers would keep their resources in the cluster.
    """

    def __init__(self, searcher: StudySearcher, ask_to_stop: Callable[[int], None]) -> None:
        super().__init__()
        self._searcher, self._ask_to_stop = searcher, ask_to_stop

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Called by Ray Tune before the searcher, which hears only of results that are not the last."""
        if not self._searcher.take(trial.trial_id, result):
            self._ask_to_stop(trial.config[NUMBER])
        return str(TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Called once a trial has failed for good, before the searcher hears of it."""
        # the text that Ray Tune has just written; the exception itself would have to be unpickled
        words = Path(trial.error_file).read_text(encoding="utf-8").strip().rpartition("Failure # ")[2]  # the last
        reason = "its process died, or its node" if _LOST.search(words) else words.splitlines()[-1]
        self._searcher.note_death(trial.trial_id, reason)
