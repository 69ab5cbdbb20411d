#!/usr/bin/env bash
# Among pruned trials, Optuna's TPE takes the one that lived longest for the best, however bad its values are.
#
# Expected: a sampler that minimizes looks near pruned trials that reported 0.2 rather than near some that reported 1e6.
# Seen: with optuna 5.0.0 pruned trials are ordered by their last step first and by their value only among equals. With 20
# trials around x = 0.12 stopped at step 1 with a loss of 0.2, and three around 0.91 stopped at step 10 with a loss of 1e6,
# the next trial goes next to the latter for 40 of 40 seeds; where all had lived to step 10, for none.
# Why it matters here: a GAN that diverges after half of its budget is pruned late, and draws the search to its learning
# rates. This project marks such a trial as infeasible by a constraint, which TPE ranks behind all others.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'optuna==5.0.0'
cat >"$folder/look.py" <<'PYTHON'
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

SPACE = {"x": FloatDistribution(0, 1)}
SEEDS = 40


def pruned(x: float, loss: float, steps: int) -> FrozenTrial:
    losses = dict.fromkeys(range(1, steps + 1), loss)
    return create_trial(
        state=TrialState.PRUNED, params={"x": x}, distributions=SPACE, intermediate_values=losses
    )


def near_the_diverged(steps_of_good: int) -> int:
    """For how many seeds the next trial is near those that reported 1e6 for ten steps."""
    near = 0
    for seed in range(SEEDS):
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
        study = optuna.create_study(direction="minimize", sampler=sampler)
        study.add_trials([pruned(0.1 + 0.01 * (index % 5), 0.2, steps_of_good) for index in range(20)])
        study.add_trials([pruned(0.9 + 0.01 * index, 1e6, 10) for index in range(3)])
        near += study.ask(SPACE).params["x"] > 0.5
    return near


optuna.logging.set_verbosity(optuna.logging.ERROR)
early, late = near_the_diverged(1), near_the_diverged(10)
print(f"optuna {optuna.__version__}, {SEEDS} seeds: next trial near the losses of 1e6")
print(f"where the losses of 0.2 were pruned at step 1: {early}; where they too lived to step 10: {late}")
raise SystemExit(not (early > SEEDS * 0.9 and late < SEEDS * 0.1))
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
