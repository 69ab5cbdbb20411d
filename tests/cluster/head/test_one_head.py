"""A second head of a cluster, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import yaml

from cluster import files
from cluster.config import load_config
from cluster.head.programs import submit

HOLDER = """
import sys, time
from pathlib import Path
from cluster import files
lock = files.lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_second_head_ends_at_once_and_touches_nothing(tmp_path: Path) -> None:
    settings = {"name": "one", "folder": str(tmp_path), "node_types": {"cpu": {"max": 1}}, "head": {"where": "here"}}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(settings))
    home, lock = tmp_path / "one", tmp_path / "one" / files.HEAD_LOCK_NAME
    home.mkdir()
    config = load_config(tmp_path / "cluster.yaml")
    files.write_json(home / files.CONFIG_NAME, config.model_dump(mode="json"))
    program = submit(home, ["true"], tmp_path, {})
    with subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        second = subprocess.run(
            [sys.executable, "-m", "cluster.head", home, "b"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (second.returncode, second.stdout) == (
            1, f"The cluster has a head already ({lock} is locked): this one ends.\n"
        )  # fmt: skip
        assert program.state() == {"state": "waiting"}, "it is the first one's"
        assert not list(home.glob("token-*"))
        assert files.is_locked(lock)
        first.kill()
        first.wait()
        assert not files.is_locked(lock), "a process that dies lets go"
