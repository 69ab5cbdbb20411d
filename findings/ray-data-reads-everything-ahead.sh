#!/usr/bin/env bash
# Ray Data makes block after block of a data set whose reader has asked for one and holds it.
#
# Expected: `iter_batches(prefetch_batches=1)` lets a reader be a batch or a few ahead of its consumer, as the prefetching of
# torch's DataLoader does.
# Seen: with ray 2.60.0, two CPUs and 200 blocks of 1 MiB, more than 100 have been made while the consumer sleeps over the
# first: what is ahead is bounded by the object store, not by the number of batches.
# Why it matters here: beside a training that takes a window of images every few seconds, windows for minutes filled the
# store: gigabytes at 64 px. Data is read here in short executions, and the next one starts when one is used.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray[data]==2.60.0'
cat >"$folder/look.py" <<'PYTHON'
import sys
import time
from pathlib import Path

import numpy as np
import ray

BLOCKS, ENOUGH, PATIENCE_S = 200, 100, 90
folder = Path(sys.argv[1])


def made(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    (folder / str(int(batch["id"][0]))).touch()
    return {"image": np.zeros((1, 2**20), np.uint8)}


ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
ray.data.DataContext.get_current().enable_progress_bars = False
blocks = ray.data.range(BLOCKS, override_num_blocks=BLOCKS).map_batches(made, batch_size=None)
batches = iter(blocks.iter_batches(batch_size=None, prefetch_batches=1))
next(batches)
end = time.monotonic() + PATIENCE_S
while (ahead := len(list(folder.iterdir()))) <= ENOUGH and time.monotonic() < end:
    time.sleep(1)
print(f"ray {ray.__version__}: {ahead} of {BLOCKS} blocks were made while the consumer held the first")
raise SystemExit(not ahead > ENOUGH)
PYTHON
mkdir "$folder/made"
unset RAY_ADDRESS
RAY_TMPDIR="$folder" "$folder/venv/bin/python" "$folder/look.py" "$folder/made" 2>/dev/null
