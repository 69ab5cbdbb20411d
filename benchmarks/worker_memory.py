"""Peak memory and CPU time of this process and of the Ray workers it started. Nothing to run."""

import os
import threading
from pathlib import Path


class Watch:
    """Samples the resident memory of this process and of Ray's worker processes below it, ten times a second."""

    def __init__(self) -> None:
        self.driver_mb = self.worker_mb = 0.0
        self._cpu_s: dict[int, float] = {}
        self._before_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Watch":
        self._before_s = sum(cpu_s(pid) for pid in (os.getpid(), *descendants(os.getpid())))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def cpu_s(self) -> float:
        """CPU seconds of this process and of all below it, Ray's own among them, since the watch began."""
        return sum(self._cpu_s.values()) - self._before_s

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            self.driver_mb = max(self.driver_mb, resident_mb(os.getpid()))
            below = descendants(os.getpid())
            for pid in (os.getpid(), *below):
                self._cpu_s[pid] = max(self._cpu_s.get(pid, 0.0), cpu_s(pid))
            workers = [pid for pid in below if command(pid).startswith("ray::")]
            self.worker_mb = max([self.worker_mb, *map(resident_mb, workers)])


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []
    return children + [below for child in children for below in descendants(child)]


def command(pid: int) -> str:
    """Command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def resident_mb(pid: int) -> float:
    """Resident memory without pages shared with the object store [MB]."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    sizes = dict(line.split(":", 1) for line in lines)
    return float(sizes.get("RssAnon", "0 kB").split()[0]) / 1000
