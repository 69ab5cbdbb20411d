#!/usr/bin/env bash
# ray.init replaces a program's handler of SIGTERM, and a terminated program exits with code 15.
#
# Expected: a program keeps the handler that it has set, as it would with any other library; without one, SIGTERM ends it by the
# signal (143 in a shell), which is how a scheduler or a script tells "was terminated" from "failed".
# Seen: with ray 2.60.0, a handler set before ray.init is not that of the process afterwards, and a program without one exits with
# code 15.
# Why it matters here: a training that saves when SLURM's warning comes would not, if it set its handler before it joins Ray, and
# a job script that requeues on 143 does not requeue. The handler has to be put back after ray.init.
# 2026-11-30, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray==2.60.0'
cat >"$folder/look.py" <<'PYTHON'
import os
import signal
import sys
import time

import ray


def save(number: int, frame: object) -> None:
    sys.exit(0)


if sys.argv[1] == "own":
    signal.signal(signal.SIGTERM, save)
ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, logging_level="error", log_to_driver=False)
if sys.argv[1] == "own":
    print("kept" if signal.getsignal(signal.SIGTERM) is save else "replaced")
else:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
PYTHON
unset RAY_ADDRESS
export RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$folder"
"$folder/venv/bin/python" -c 'import ray; print(f"ray {ray.__version__}")'
handler=$("$folder/venv/bin/python" "$folder/look.py" own 2>/dev/null)
echo "a handler of SIGTERM set before ray.init is $handler"
code=0
"$folder/venv/bin/python" "$folder/look.py" none 2>/dev/null || code=$?
echo "a program without one exits with code $code on SIGTERM"
[ "$handler:$code" = "replaced:15" ]
