"""Check of the CPUs, memory and limits of this process."""

import os
import resource
import shutil
import socket
from pathlib import Path

from emixer.doctor.finding import Finding, ok, warning
from emixer.ray_session import usable_cpus

_SHARED = Path("/dev/shm")  # noqa: S108 - where Ray's object store is mapped
_FEW_FILES = 4096
"""Ray recommends more; with fewer, a node with many workers runs out."""
_GIB = 2**30
_LITTLE_GIB = 1
"""Docker gives a container 64 MiB."""


def look() -> list[Finding]:
    """Check the resources that this process may use."""
    return [_processors(), *_shared_memory(), _open_files(), _own_name()]


def _processors() -> Finding:
    usable, there = usable_cpus(), os.cpu_count() or 1
    busy = os.getloadavg()[0]
    words = f"{usable} of {there} CPUs, load {busy:.1f}" if usable < there else f"{there} CPUs, load {busy:.1f}"
    if busy > there:  # of the whole machine: other jobs of a node keep to CPUs of their own
        return warning(
            "processors", words,
            "The CPUs are busy with other processes, which slows training. See docs/train.md#on-a-busy-machine.",
        )  # fmt: skip
    return ok("processors", words)


def _shared_memory() -> list[Finding]:
    if not _SHARED.is_dir():
        return []
    free_gib = shutil.disk_usage(_SHARED).free / _GIB
    words = f"{free_gib:.1f} GiB free in {_SHARED}, where Ray keeps objects"
    if free_gib < _LITTLE_GIB:
        return [
            warning("shared memory", words, "Too little for image blocks: give a container more, e.g. --shm-size 8g.")
        ]
    return [ok("shared memory", words)]


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FEW_FILES:
        return warning("open files", f"at most {soft}", f"ulimit -n {min(hard, 65536)} before a large run.")
    return ok("open files", f"at most {soft}")


def _own_name() -> Finding:
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        return warning(
            "network", f"{name} has no address",
            "A multi-node Ray cluster needs one: add it to DNS or /etc/hosts.",
        )  # fmt: skip
    return ok("network", f"{name} is {address}")
