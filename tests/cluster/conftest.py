"""A private Ray node, and stand-ins for commands of SLURM that must misbehave."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import rendezvous
from cluster.node.ray_node import Share, ray_node, wait_for_port
from cluster.rendezvous import free_port, node_environment


@pytest.fixture
def disk() -> Iterator[Path]:
    """A local disk with a short path, as Ray's sockets need."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="d-"))
    yield folder
    shutil.rmtree(folder)


@contextmanager
def head_node(
    home: Path, disk: Path, instance: str = "head"
) -> Iterator[tuple[rendezvous.Head, "subprocess.Popen[bytes]", Path]]:
    """Start a head whose port answers; yield it, its process and its log."""
    attempt, log = secrets.token_hex(4), home / "ray.log"
    head = rendezvous.prepare(home / "home", f"127.0.0.1:{free_port()}", attempt)
    environment = head.environment() | node_environment(attempt, instance, "head")
    arguments = [
        "--head", f"--port={head.address.rpartition(':')[2]}", "--node-ip-address=127.0.0.1",
        "--include-dashboard=false", f"--ray-client-server-port={free_port()}",
    ]  # fmt: skip
    with ray_node(Share(1, 0, 1000), environment, arguments, disk, "1-0-0", log) as process:
        wait_for_port(head.address, process, log)
        yield head, process, log


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script in the place of a command of SLURM."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return put
