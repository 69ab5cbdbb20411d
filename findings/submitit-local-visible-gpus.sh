#!/usr/bin/env bash
# A job of submitit's local executor sees other GPUs than those to which its caller is limited.
#
# Expected: a job runs with the environment of the program that submits it; CUDA_VISIBLE_DEVICES=3, with which users of a shared
# workstation keep to the GPU that is theirs, holds for jobs of one GPU as for anything else that they start.
# Seen: with submitit 1.5.4, the job has CUDA_VISIBLE_DEVICES=0, and an empty one where no GPU was asked for.
# Why it matters here: `python -m jobs --executor local` would train on somebody else's GPU. The visible GPUs have to be given to the
# executor (`visible_gpus`).
# 2026-11-30, Linux, Python 3.11. Needs a package index, and no GPU; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'submitit==1.5.4'
cat >"$folder/look.py" <<'PYTHON'
import os
import sys

import submitit


def seen() -> str:
    return repr(os.environ.get("CUDA_VISIBLE_DEVICES"))


executor = submitit.LocalExecutor(sys.argv[1])
for gpus in (1, 0):
    executor.update_parameters(timeout_min=1, gpus_per_node=gpus)
    print(executor.submit(seen).result())
PYTHON
"$folder/venv/bin/python" -c 'import submitit; print(f"submitit {submitit.__version__}")'
found=$(CUDA_VISIBLE_DEVICES=3 "$folder/venv/bin/python" "$folder/look.py" "$folder/logs" | tr '\n' ' ')
echo "with CUDA_VISIBLE_DEVICES=3, a job of one GPU and one of none see: $found"
[ "$found" = "'0' '' " ]
