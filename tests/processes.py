"""Processes on this machine and what they listen on, as /proc and ss tell."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def children_of(pid: int) -> set[int]:
    """Return all descendants of a process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents.setdefault(int((entry / "stat").read_text().rpartition(")")[2].split()[1]), []).append(
                int(entry.name)
            )
    found, waiting = set[int](), [pid]
    while waiting:
        new = set(parents.get(waiting.pop(), [])) - found
        found |= new
        waiting += new
    return found


def command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def assert_listen_on_the_loopback(pids: set[int]) -> None:
    """Assert that these processes of a training run or a dataset, and its Ray, listen nowhere else. Needs ss."""
    lines = subprocess.run(["ss", "-ltnpH"], text=True, capture_output=True, check=True).stdout.splitlines()
    addresses = [line.split()[3] for line in lines if any(f"pid={pid}," in line for pid in pids)]
    assert len(addresses) >= 5, "GCS, raylet, agents, workers"
    assert {address.rpartition(":")[0] for address in addresses} <= {"127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"}


def wait_until(condition: Callable[[], Any], patience_s: float) -> Any:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    return condition()
