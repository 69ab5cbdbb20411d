#!/usr/bin/env bash
# Optuna's successive halving keeps a trial's value by the number of the rung, without the step at which it was measured.
#
# Expected: a study that is opened again with another min_resource compares a trial at step 1 with what other trials had reported at
# step 1, which the study holds; or says that its pruner has changed.
# Seen: with optuna 5.0.0, a trial is stored as completed_rung_0 with its value at step 3 (min_resource=3). Opened again with
# min_resource=1, a new trial that is better than all others at every step they share is pruned at step 1, since its first value is
# compared with their third.
# Why it matters here: a search that runs for days is stopped and continued, and the first rung is what one changes on seeing that
# early values predict nothing. Continued with another one, a search must refuse, or it prunes nearly everything or nothing.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'optuna==5.0.0'
cat >"$folder/look.py" <<'PYTHON'
import optuna
from optuna.pruners import SuccessiveHalvingPruner

optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = optuna.storages.InMemoryStorage()


def opened(min_resource):
    pruner = SuccessiveHalvingPruner(min_resource=min_resource, reduction_factor=2)
    return optuna.create_study(storage=storage, study_name="s", pruner=pruner, load_if_exists=True)


def pruned_at(study, values):  # a loss at each step, lower is better
    trial = study.ask()
    for step, value in enumerate(values, start=1):
        trial.report(value, step)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return step
    study.tell(trial, values[-1])
    return None


study = opened(min_resource=3)
for extra in (0.0, 0.1, 0.2, 0.3):
    pruned_at(study, [9 + extra, 5 + extra, 1 + extra])
(kept, *_) = study.trials
print("kept of a trial:", kept.system_attrs, "of its reports:", kept.intermediate_values)
better = [8.0, 4.0, 0.5]
print("a better trial is pruned at step", pruned_at(opened(min_resource=3), better), "with the same pruner,")
print("and at step", pruned_at(opened(min_resource=1), better), "with min_resource=1")
PYTHON
"$folder/venv/bin/python" -c 'import optuna; print(f"optuna {optuna.__version__}")'
seen=$("$folder/venv/bin/python" "$folder/look.py" 2>/dev/null)
echo "$seen"
grep -q "'completed_rung_0': 1.0" <<<"$seen"
grep -q "pruned at step None with the same pruner" <<<"$seen"
grep -q "and at step 1 with min_resource=1" <<<"$seen"
