#!/usr/bin/env bash
# Ray Data's own actor pools log, at level error, that their restart may fail.
#
# Expected: a data set that maps batches by a class, with all defaults and no failure, logs no error.
# Seen: with ray 2.60.0, one line of the C++ log, "E ... Actor with class name: 'MapWorker(...)' ... has constructor arguments
# in the object store and max_restarts > 0. If the arguments ... are lost, the actor restart will fail", for the first actor.
# Both the arguments (a context and the function, put there by Ray Data) and the number of restarts are Ray Data's own.
# Why it matters here: whoever generates a dataset sees it in a healthy run and takes it for a fault of theirs. It precedes
# Python's logging, so that no logger filters it; RAY_BACKEND_LOG_LEVEL=fatal hides it, and all real errors with it.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray[data]==2.60.0'
cat >"$folder/look.py" <<'PYTHON'
import ray


class Same:
    def __call__(self, batch):
        return batch


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
ray.data.DataContext.get_current().enable_progress_bars = False
rows = ray.data.range(4).map_batches(Same, compute=ray.data.ActorPoolStrategy(size=1)).take_all()
print(f"ray {ray.__version__}: {len(rows)} of 4 rows")
PYTHON
unset RAY_ADDRESS
RAY_TMPDIR="$folder" "$folder/venv/bin/python" "$folder/look.py" 2>"$folder/stderr"
grep --max-count 1 ' E .*constructor arguments in the object store and max_restarts > 0' "$folder/stderr"
