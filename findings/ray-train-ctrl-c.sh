#!/usr/bin/env bash
# Ctrl-C on a script that calls Ray Train's `fit()` ends it with exit code 1, without a traceback and without a word.
#
# Expected: KeyboardInterrupt out of `fit()`, so that the script can save or say something, and an exit code that says
# "interrupted"; or 0, which a comment in Ray's handler intends.
# Seen: with ray 2.60.0, `fit()` in the main thread sets a handler of SIGINT that aborts the run and calls sys.exit: an
# `except KeyboardInterrupt` around it never runs, stdout and stderr stay empty where Ray's logging is at WARNING, and the
# exit code is 1, as after a crash. In any other thread `fit()` sets no handler.
# Why it matters here: who stops a training by hand, or a program that reads exit codes, cannot tell an interruption from
# a defect, and what was not saved is lost. This project calls `fit()` in a thread and handles Ctrl-C itself.
# 2026-11-28, Linux, Python 3.11. Needs a package index; installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray[train]==2.60.0'
cat >"$folder/train.py" <<'PYTHON'
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

thread_or_main, folder = sys.argv[1], Path(sys.argv[2])


def work() -> None:
    (folder / "began").touch()
    while True:
        time.sleep(0.1)


def fit(trainer: DataParallelTrainer, ended: "Future[None]") -> None:
    try:
        ended.set_result(trainer.fit())
    except BaseException as error:
        ended.set_exception(error)


ray.init(address="local", include_dashboard=False, num_cpus=2, logging_level="warning", log_to_driver=False)
trainer = DataParallelTrainer(
    work, scaling_config=ScalingConfig(num_workers=1), run_config=RunConfig(storage_path=str(folder / "runs"))
)
try:
    if thread_or_main == "main":
        trainer.fit()
    else:
        ended: "Future[None]" = Future()
        threading.Thread(target=fit, args=(trainer, ended), daemon=True).start()
        ended.result()
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
    sys.exit(130)
PYTHON
cat >"$folder/look.py" <<'PYTHON'
import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def interrupted(where: str) -> tuple[int, str]:
    """Exit code and stdout of a training that gets SIGINT, as a terminal sends it, while its worker works."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(sys.argv[0]).with_name("train.py")), where, folder]
        environment = os.environ | {"RAY_TRAIN_V2_ENABLED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        for _ in range(1800):
            if (Path(folder) / "began").exists():
                break
            time.sleep(0.1)
        else:
            raise SystemExit("The worker never began.")
        os.killpg(process.pid, signal.SIGINT)
        printed, _ = process.communicate(timeout=180)
        return process.returncode, printed.strip()


print(f"ray {importlib.metadata.version('ray')}")
seen = {where: interrupted(where) for where in ("main", "thread")}
for where, (code, printed) in seen.items():
    print(f"fit() in the {where}: exit code {code}, stdout {printed!r}")
raise SystemExit(seen != {"main": (1, ""), "thread": (130, "KeyboardInterrupt")})
PYTHON
"$folder/venv/bin/python" "$folder/look.py"
