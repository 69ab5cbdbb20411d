"""Logs on a disk that is full."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from cluster import files
from cluster.config import load_config


def run(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A process whose output goes to a full disk."""
    with Path("/dev/full").open("w") as full:
        return subprocess.run(
            [sys.executable, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, **environment}, timeout=120,
        )  # fmt: skip


def test_full_log_costs_a_process_neither_its_work_nor_its_exit_code(tmp_path: Path) -> None:
    work = f"from cluster.output import say; [say('x' * 5000) for _ in range(9)]; open('{tmp_path}/done', 'w')"
    done = run("-c", work)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").exists()


def test_worker_that_finds_no_head_ends_in_order_though_its_log_is_full(
    tmp_path: Path, command: Callable[[str, str], None]
) -> None:
    command("squeue", f"touch {tmp_path}/asked")
    (tmp_path / "head.json").write_text(json.dumps({"address": "127.0.0.1:1", "attempt": "another"}))
    step = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_JOB_NODELIST": "n1", "SLURM_CPUS_PER_TASK": "1"}
    done = run("-m", "cluster.worker", tmp_path, "a", "cpu", **step)
    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "asked").exists(), "whether others are left to cancel"


def test_head_goes_on_looking_after_programs_though_its_log_is_full(tmp_path: Path) -> None:
    settings = {"name": "one", "folder": str(tmp_path), "node_types": {"cpu": {"max": 1}}, "head": {"where": "here"}}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "one").mkdir()
    files.write_json(
        tmp_path / "one" / files.CONFIG_NAME, load_config(tmp_path / "cluster.yaml").model_dump(mode="json")
    )
    (tmp_path / "watch.py").write_text(WATCH)
    done = run(tmp_path / "watch.py", tmp_path / "one")
    assert (done.returncode, done.stderr) == (0, "")


WATCH = """
import subprocess, sys
from pathlib import Path
from cluster.head import __main__ as head

class Programs:
    looked = 0
    def look(self):
        self.looked += 1
        if self.looked == 3:
            (Path(sys.argv[1]) / "stop").touch()
        raise OSError("the disk is full")

with subprocess.Popen(["sleep", "60"]) as ray:
    code = head._Head(Path(sys.argv[1]), "a")._watch(ray, Programs())
    ray.kill()
sys.exit(code)
"""
