#!/usr/bin/env bash
# Ray raises the niceness of its workers by 15, so that beside one busy process a core they get a few percent of it.
#
# Expected: `ray.init()` and `ray start` run tasks and actors with the niceness of who started them, as a process pool does.
# Seen: with ray 2.60.0 a task runs at 15 where the driver runs at 0; RAY_worker_niceness=0 gives 0.
# Why it matters here: a training on a shared workstation, or beside a colleague's job on a node, went at 1 to 6 images/s
# instead of 40, with no hint of the cause.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray==2.60.0'
cat >"$folder/look.py" <<'PYTHON'
import os
import ray

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
worker = ray.get(ray.remote(lambda: os.getpriority(os.PRIO_PROCESS, 0)).remote())
print(worker - os.getpriority(os.PRIO_PROCESS, 0))
PYTHON
unset RAY_worker_niceness RAY_ADDRESS
default=$(RAY_TMPDIR="$folder" "$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -n 1)
unset_to_0=$(RAY_worker_niceness=0 RAY_TMPDIR="$folder" "$folder/venv/bin/python" "$folder/look.py" 2>/dev/null | tail -n 1)
echo "ray $("$folder/venv/bin/python" -c 'import ray; print(ray.__version__)'): workers are nicer by $default; with RAY_worker_niceness=0 by $unset_to_0"
[ "$default" = 15 ] && [ "$unset_to_0" = 0 ]
